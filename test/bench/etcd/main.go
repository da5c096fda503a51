// Command etcd drives an etcd cluster by its own client with the closed loop that
// the other systems are driven by. It is a module of its own so that nothing of
// etcd becomes a dependency of the product.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/cloister-os/cloister/test/bench/load"
)

func main() {
	var j load.Job
	flag.IntVar(&j.Clients, "clients", 1, "clients, each with a connection of its own")
	flag.IntVar(&j.Bytes, "bytes", 256, "size of a value")
	flag.DurationVar(&j.For, "for", 3*time.Second, "how long")
	flag.BoolVar(&j.Reads, "reads", false, "read linearizably instead of writing")
	flag.StringVar(&j.Name, "name", "bench", "prefix of the keys")
	server := flag.String("server", "", "host:port")
	ca, cert, key := flag.String("ca", "", "CA, PEM"), flag.String("cert", "", "client certificate, PEM"), flag.String("key", "", "its key, PEM")
	flag.Parse()
	if err := run(j, *server, *ca, *cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

func run(j load.Job, server, ca, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("the CA's file holds no certificate")
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS13}
	f, err := load.Run(context.Background(), j, func(ctx context.Context, _ int) (load.Client, error) {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{server}, TLS: c.Clone(), Logger: zap.NewNop(), DialTimeout: 10 * time.Second})
		if err != nil {
			return nil, err
		}
		_, err = c.Get(ctx, "hello")
		return client{c}, err
	})
	if err != nil {
		return err
	}
	return f.Print(os.Stdout)
}

type client struct{ *clientv3.Client }

func (c client) Put(ctx context.Context, key string, value []byte) error {
	_, err := c.Client.Put(ctx, key, string(value))
	return err
}

func (c client) Get(ctx context.Context, key string) error {
	r, err := c.Client.Get(ctx, key)
	if err == nil && len(r.Kvs) != 1 {
		return fmt.Errorf("%q has %d values", key, len(r.Kvs))
	}
	return err
}
