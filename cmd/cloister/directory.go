package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

const directoriesAt = "/api/v1/directories"

func directoryCommand() *cobra.Command {
	return group("directory", "The directories (Active Directory, LDAP) by which people sign in: add, list, remove, test, groups, grant, revoke",
		directoryAddCommand(), directoryListCommand(), directoryRemoveCommand(), directoryTestCommand(), directoryGroupsCommand(),
		directoryGrantCommand(), directoryRevokeCommand())
}

// between wants so many arguments, the first of which is called so.
func between(least, most int, first string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s is missing", first)
		case len(args) > most:
			return usagef("%q is too much", args[most])
		}
		return nil
	}
}

func addDirectoryFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSlice("server", nil, "ldaps://HOST[:PORT], or ldap://HOST[:PORT] for StartTLS; several are asked in this order")
	f.String("ca", "", "PEM file of the authority that signed the servers' certificates")
	f.String("bind-dn", "", "the service account that searches")
	f.Bool("password-stdin", false, "read the service account's password from standard input, one line")
	f.String("base", "", "people are below it, such as dc=example,dc=org")
	f.String("group-base", "", "groups are below it; the base when not given")
	f.String("kind", "", "ad or ldap; asked of the server when not given")
	f.StringSlice("login-attribute", nil, "what people sign in with; sAMAccountName and userPrincipalName, or uid, when not given")
	f.String("filter", "", "an LDAP filter that people must match beside")
}

// directorySettings reads the flags; the password comes last, when all else is
// there.
func directorySettings(cmd *cobra.Command, name string) (wire.NewDirectory, error) {
	f := cmd.Flags()
	d := wire.NewDirectory{Name: name}
	d.Servers, _ = f.GetStringSlice("server")
	d.BindDN, _ = f.GetString("bind-dn")
	d.Base, _ = f.GetString("base")
	d.GroupBase, _ = f.GetString("group-base")
	d.Kind, _ = f.GetString("kind")
	d.LoginAttrs, _ = f.GetStringSlice("login-attribute")
	d.Filter, _ = f.GetString("filter")
	ca, _ := f.GetString("ca")
	for flag, value := range map[string]string{"--server": strings.Join(d.Servers, ""), "--ca": ca, "--bind-dn": d.BindDN, "--base": d.Base} {
		if value == "" {
			return d, usagef("%s is missing: a directory needs --server, --ca, --bind-dn and --base", flag)
		}
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return d, fmt.Errorf("read the authority's certificate: %w", err)
	}
	d.CA = string(pem)
	d.BindPassword, err = readPassword(cmd, false)
	return d, err
}

func directoryAddCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NAME --server URL --ca FILE --bind-dn DN --base DN", Short: "Join a directory, once a test of the connection ends well", Args: needs("the directory's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := directorySettings(cmd, args[0])
			if err != nil {
				return err
			}
			d.Anyway, _ = cmd.Flags().GetBool("anyway")
			var r wire.DirectoryReport
			if err := call(cmd, http.MethodPost, directoriesAt, d, &r); err != nil {
				return err
			}
			return show(cmd, r, func(w io.Writer) error {
				if err := writeReport(w, r); err != nil {
					return err
				}
				_, err := fmt.Fprintf(w, "Directory %s is joined. Nobody of it may sign in yet: say which group gives which role with\n  cloister directory groups %s TEXT\n  cloister directory grant %s GROUP ROLE\n", d.Name, d.Name, d.Name)
				return err
			})
		},
	}
	addDirectoryFlags(cmd)
	cmd.Flags().Bool("anyway", false, "join it even though the test does not end well")
	return cmd
}

func directoryListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Show the directories, and which of their groups gives which role", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []wire.Directory
			if err := get(cmd, directoriesAt, &list); err != nil {
				return err
			}
			return show(cmd, list, func(w io.Writer) error {
				if len(list) == 0 {
					_, err := fmt.Fprintln(w, "No directory is joined: only local accounts sign in. Join one with: cloister directory add NAME --server ldaps://HOST --ca FILE --bind-dn DN --base DN")
					return err
				}
				return writeDirectories(w, list)
			})
		},
	}
}

func writeDirectories(w io.Writer, list []wire.Directory) error {
	var joined, roles [][]string
	for _, d := range list {
		joined = append(joined, []string{d.Name, strings.Join(d.Servers, ","), d.Base, heardShort(d.DirectoryHeard)})
		for _, r := range d.Roles {
			roles = append(roles, []string{d.Name, r.Name, r.Role, r.Group})
		}
	}
	if err := table(w, []string{"NAME", "SERVERS", "BASE", "STATE"}, joined); err != nil || len(roles) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return table(w, []string{"DIRECTORY", "GROUP", "ROLE", "ID"}, roles)
}

func heardShort(h wire.DirectoryHeard) string {
	switch {
	case h.SilentSince != nil:
		return "silent since " + when(*h.SilentSince)
	case h.Answered != nil:
		return fmt.Sprintf("answers, %d signed in", h.People)
	}
	return "joined"
}

func directoryRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Leave a directory: its people are signed out, its groups give no roles", Args: needs("the directory's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if yes, _ := cmd.Flags().GetBool("yes"); !yes {
				if err := confirm(cmd, fmt.Sprintf("Everybody of the directory %s is signed out at once, and its groups give no roles any more.", clean(args[0])), args[0], "--yes"); err != nil {
					return err
				}
			}
			if err := call(cmd, http.MethodDelete, directoriesAt+"/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return say(cmd, "Directory %s is left.", clean(args[0]))
		},
	}
	cmd.Flags().Bool("yes", false, "do not ask")
	return cmd
}

func directoryTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "test [NAME]", Short: "Walk the connection step by step and say what was seen: of a directory that is joined by NAME, else of the settings that the flags give",
		Args: between(0, 1, "the directory's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			who := wire.DirectoryTest{}
			who.Person, _ = cmd.Flags().GetString("person")
			path, body := "", any(who)
			if len(args) == 1 && !cmd.Flags().Changed("server") {
				path = directoriesAt + "/" + url.PathEscape(args[0]) + "/test"
			} else {
				name := "test"
				if len(args) == 1 {
					name = args[0]
				}
				d, err := directorySettings(cmd, name)
				if err != nil {
					return err
				}
				path, body = directoriesAt+"/test", wire.TestDirectory{NewDirectory: d, DirectoryTest: who}
			}
			var r wire.DirectoryReport
			if err := call(cmd, http.MethodPost, path, body, &r); err != nil {
				return err
			}
			if err := show(cmd, r, func(w io.Writer) error { return writeReport(w, r) }); err != nil {
				return err
			}
			if !r.OK {
				return errors.New("the connection does not work yet: see the step marked with ✗")
			}
			return nil
		},
	}
	addDirectoryFlags(cmd)
	cmd.Flags().String("person", "", "a name that somebody signs in with: show their account and groups; no password is needed")
	return cmd
}

func writeReport(w io.Writer, r wire.DirectoryReport) error {
	var b strings.Builder
	for _, s := range r.Steps {
		mark := "✓"
		if !s.OK {
			mark = "✗"
		}
		fmt.Fprintf(&b, "%s %s: %s\n", mark, s.What, s.Saw)
		if s.Next != "" {
			fmt.Fprintf(&b, "  → %s\n", s.Next)
		}
	}
	if p := r.Person; p != nil {
		for _, g := range p.Groups {
			fmt.Fprintf(&b, "  group %s (%s)\n", g.Name, g.ID)
		}
	}
	_, err := io.WriteString(w, clean(b.String()))
	return err
}

func directoryGroupsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "groups NAME [TEXT]", Short: "Show groups of a directory whose name contains a text, with their ids", Args: between(1, 2, "the directory's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := directoryGroups(cmd, args[0], strings.Join(args[1:], ""))
			if err != nil {
				return err
			}
			return show(cmd, list, func(w io.Writer) error {
				var rows [][]string
				for _, g := range list.Groups {
					rows = append(rows, []string{g.ID, g.Name, g.DN})
				}
				if err := table(w, []string{"ID", "NAME", "DN"}, rows); err != nil || !list.More {
					return err
				}
				_, err := fmt.Fprintln(w, "There are more: give more letters of the name.")
				return err
			})
		},
	}
}

func directoryGroups(cmd *cobra.Command, name, text string) (wire.DirectoryGroups, error) {
	var list wire.DirectoryGroups
	err := get(cmd, directoriesAt+"/"+url.PathEscape(name)+"/groups?limit=200&search="+url.QueryEscape(text), &list)
	return list, err
}

var groupID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// groupNamed is the id of the only group that is called so; an id is one already.
func groupNamed(cmd *cobra.Command, dir, group string) (string, error) {
	if groupID.MatchString(group) {
		return group, nil
	}
	list, err := directoryGroups(cmd, dir, group)
	if err != nil {
		return "", err
	}
	var found []string
	for _, g := range list.Groups {
		if strings.EqualFold(g.Name, group) {
			found = append(found, g.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("there is no group called %q: see cloister directory groups %s", group, dir)
	}
	return "", fmt.Errorf("%d groups are called %q: give the id of one, see cloister directory groups %s %s", len(found), group, dir, group)
}

func directoryGrantCommand() *cobra.Command {
	return &cobra.Command{
		Use: "grant NAME GROUP ROLE", Short: "Let a group, by its id or name, give a role: administrator, builder, user, approver, auditor or operator",
		Args: needs("the directory's NAME", "the GROUP", "the ROLE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := groupNamed(cmd, args[0], args[1])
			if err != nil {
				return err
			}
			var g wire.DirectoryGroup
			path := directoriesAt + "/" + url.PathEscape(args[0]) + "/roles"
			if err := call(cmd, http.MethodPost, path, wire.NewDirectoryRole{Group: id, Role: args[2]}, &g); err != nil {
				return err
			}
			return show(cmd, g, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Whoever is in %s is %s from the next request on.\n", clean(g.Name), clean(args[2]))
				return err
			})
		},
	}
}

func directoryRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME GROUP ROLE", Short: "Take a role back from a group, by its id or the name that the list shows", Args: needs("the directory's NAME", "the GROUP", "the ROLE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := grantedGroup(cmd, args[0], args[1], args[2])
			if err != nil {
				return err
			}
			path := directoriesAt + "/" + url.PathEscape(args[0]) + "/roles/" + id + "/" + url.PathEscape(args[2])
			if err := call(cmd, http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			return say(cmd, "That group gives the role %s no longer.", clean(args[2]))
		},
	}
}

// grantedGroup finds a group among those that give the role: it may be gone from
// the directory.
func grantedGroup(cmd *cobra.Command, dir, group, role string) (string, error) {
	if groupID.MatchString(group) {
		return group, nil
	}
	var list []wire.Directory
	if err := get(cmd, directoriesAt, &list); err != nil {
		return "", err
	}
	for _, d := range list {
		for _, r := range d.Roles {
			if d.Name == dir && r.Role == role && strings.EqualFold(r.Name, group) {
				return r.Group, nil
			}
		}
	}
	return "", fmt.Errorf("no group called %q gives the role %s: see cloister directory list", group, role)
}
