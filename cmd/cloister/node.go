package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node"
	"github.com/cloister-os/cloister/node/api/wire"
)

func nodeCommand() *cobra.Command {
	return group("node", "The nodes of the cluster: list, invite, join, remove, transfer, readdress, recover, finalise",
		nodeListCommand(), nodeInviteCommand(), nodeJoinCommand(), nodeRemoveCommand(), nodeTransferCommand(), nodeReaddressCommand(), nodeRecoverCommand(), nodeFinaliseCommand())
}

func nodeListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the nodes", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var nodes []wire.Node
			if err := get(cmd, "/api/v1/nodes", &nodes); err != nil {
				return err
			}
			return show(cmd, nodes, func(w io.Writer) error { return writeNodes(w, nodes) })
		},
	}
}

func writeNodes(w io.Writer, nodes []wire.Node) error {
	var rows [][]string
	for _, n := range nodes {
		health := "well"
		if !n.Healthy {
			health = "not well"
		}
		rows = append(rows, []string{
			n.Name, n.Role, health, fmt.Sprint(n.Applied), dash(n.Version), size(n.FreeBytes), when(n.Certificate), dash(n.Peer), dash(n.URL),
		})
	}
	if err := table(w, []string{"NODE", "ROLE", "HEALTH", "DATA", "PROGRAM", "FREE", "CERTIFICATE", "PEER", "URL"}, rows); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Note == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", clean(n.Name), clean(n.Note)); err != nil {
			return err
		}
	}
	return nil
}

func nodeInviteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "invite", Short: "Make an invitation for one new node", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			good, _ := cmd.Flags().GetDuration("for")
			if good < time.Minute || good > 30*time.Minute || good%time.Minute != 0 {
				return usagef("--for is a number of whole minutes from 1m to 30m")
			}
			var i wire.Invitation
			if err := call(cmd, http.MethodPost, "/api/v1/nodes/invitations", wire.NewInvitation{Minutes: int(good / time.Minute)}, &i); err != nil {
				return err
			}
			return show(cmd, i, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "On the new machine, with a name and an address of its own, run:\n\n  %s\n\nThis invitation is good once, until %s. Whoever has it can join, and gets the cluster's keys.\n", i.Command, when(i.Expires))
				return err
			})
		},
	}
	cmd.Flags().Duration("for", 30*time.Minute, "how long it is good, up to 30m")
	return cmd
}

func nodeJoinCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "join TOKEN --data DIR --node NAME --cluster-peer HOST:PORT", Short: "Prepare this machine's data folder for a node of the cluster", Args: needs("the TOKEN of an invitation"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := node.Invited{Token: args[0], Version: version}
			in.Data, _ = cmd.Flags().GetString("data")
			in.Node, _ = cmd.Flags().GetString("node")
			in.Peer, _ = cmd.Flags().GetString("cluster-peer")
			for flag, value := range map[string]string{"--data DIR": in.Data, "--node NAME": in.Node, "--cluster-peer HOST:PORT": in.Peer} {
				if value == "" {
					return usagef("%s is missing", flag)
				}
			}
			var err error
			if in.Data, err = filepath.Abs(in.Data); err != nil {
				return err
			}
			j, err := node.Join(cmd.Context(), in)
			if err := errors.Join(err, giveToOwner(in.Data)); err != nil {
				return err
			}
			return show(cmd, j, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Node %s is part of the cluster. Start it with:\n\n  cloister serve --data %s --listen HOST:PORT\n\nor, where it was installed from a package:\n\n  systemctl enable --now cloister\n", j.Node, j.Data)
				return err
			})
		},
	}
	cmd.Flags().String("data", "", "a new or empty folder for everything the node keeps")
	cmd.Flags().String("node", "", "the node's name: a-z, 0-9 and -")
	cmd.Flags().String("cluster-peer", "", "where the other nodes reach this one, HOST:PORT")
	return cmd
}

func nodeRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Remove a node from the cluster for ever", Args: needs("the node's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if yes, _ := cmd.Flags().GetBool("yes"); !yes {
				if err := confirm(cmd, fmt.Sprintf("Node %s leaves the cluster for ever; its data folder is of no use after that.", clean(args[0])), args[0], "--yes"); err != nil {
					return err
				}
			}
			if err := call(cmd, http.MethodDelete, "/api/v1/nodes/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return say(cmd, "Node %s is removed.", clean(args[0]))
		},
	}
	cmd.Flags().Bool("yes", false, "do not ask")
	return cmd
}

func nodeTransferCommand() *cobra.Command {
	return &cobra.Command{
		Use: "transfer [NAME]", Short: "Hand the lead to a node, or to any that is fit", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%q is too much", args[1])
			}
			to := strings.Join(args, "")
			if err := call(cmd, http.MethodPost, "/api/v1/nodes/transfer", wire.Transfer{To: to}, nil); err != nil {
				return err
			}
			if to == "" {
				return say(cmd, "Another node leads.")
			}
			return say(cmd, "Node %s leads.", clean(to))
		},
	}
}

func nodeReaddressCommand() *cobra.Command {
	return &cobra.Command{
		Use: "readdress NAME HOST:PORT", Short: "Say where the other nodes reach a node", Args: needs("the node's NAME", "its new HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := call(cmd, http.MethodPut, "/api/v1/nodes/"+url.PathEscape(args[0])+"/address", wire.Address{Peer: args[1]}, nil); err != nil {
				return err
			}
			return say(cmd, "Node %s is reached at %s. Start it with --cluster-peer %s.", clean(args[0]), clean(args[1]), clean(args[1]))
		},
	}
}
