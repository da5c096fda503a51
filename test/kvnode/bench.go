package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus/rpc"
)

// The benchmark's questions, over the frames that nodes speak among themselves:
// mutual TLS, ALPN, bounded frames. It exists in this program alone.
const (
	benchProtocol      = "cloister-bench/1"
	benchPut      byte = 2 // length of the key (2 bytes), key, value
	benchGet      byte = 3 // key; read freshly
)

const benchQuiet = 10 * time.Minute

// serveBench answers the benchmark's clients until the listener is closed.
func (n *node) serveBench(address string) error {
	cert, err := n.ca.issue(n.cfg.id, net.IPv4(127, 0, 0, 1))
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", address, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{benchProtocol},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: n.ca.pool,
	})
	if err != nil {
		return err
	}
	n.bench = l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.benchClient(c)
		}
	}()
	return nil
}

func (n *node) benchClient(c net.Conn) {
	conn := rpc.New(c, benchQuiet)
	err := conn.Read(func(kind byte, id uint64, body []byte) error {
		if err := n.benchCall(kind, body); err != nil {
			return conn.Send(rpc.Refusal, id, []byte(err.Error()))
		}
		return conn.Send(rpc.Answer, id, nil)
	})
	n.log.Debug("a benchmark's client left", slog.Any("error", err))
}

func (n *node) benchCall(kind byte, body []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch kind {
	case benchPut:
		if len(body) < 2 || len(body) < 2+int(binary.BigEndian.Uint16(body)) {
			return errors.New("a put that was cut")
		}
		size := 2 + int(binary.BigEndian.Uint16(body))
		tx := store.NewTx()
		tx.Put(store.Key("S/kv/"+string(body[2:size])), body[size:])
		_, err := n.store.Apply(ctx, tx)
		return err
	case benchGet:
		return n.store.View(ctx, store.Fresh, func(s store.Snapshot) error {
			_, err := s.Get(store.Key("S/kv/" + string(body)))
			return err
		})
	}
	return errors.New("nothing that the benchmark asks")
}
