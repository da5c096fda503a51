package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand prints the manual page: packages carry it, and since it is made from
// the commands themselves it says what they do.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Print the manual page", Args: needs(), Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return writeMan(cmd.OutOrStdout(), cmd.Root()) },
	}
}

func writeMan(w io.Writer, root *cobra.Command) error {
	p := &manPage{w: w}
	p.line(`.TH CLOISTER 1 "" "cloister %s" "Cloister"`, version)
	p.line(".SH NAME")
	p.text("cloister - " + strings.ToLower(root.Short[:1]) + root.Short[1:])
	p.line(".SH SYNOPSIS")
	p.line(".B cloister")
	p.text("COMMAND [ARGUMENTS] [FLAGS]")
	p.line(".SH COMMANDS")
	p.commands(root)
	p.line(".SH FILES")
	for _, f := range [][2]string{
		{"/etc/cloister/cloister.toml", "The configuration of a node that was installed from a package."},
		{"/var/lib/cloister", "Everything that the node keeps."},
	} {
		p.line(".TP\n.I %s", roff(f[0]))
		p.text(f[1])
	}
	p.line(".SH EXIT STATUS")
	p.text("0 on success, 1 on failure, 2 for a command line that makes no sense.")
	p.line(".SH SEE ALSO\n.BR cloister-verify (1)")
	return p.err
}

type manPage struct {
	w   io.Writer
	err error
}

func (p *manPage) line(format string, a ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", a...)
	}
}

func (p *manPage) text(s string) { p.line("%s", roff(s)) }

func (p *manPage) commands(c *cobra.Command) {
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		if sub.HasSubCommands() && !sub.Runnable() {
			p.commands(sub)
			continue
		}
		p.line(".SS %s", roff(sub.UseLine()))
		text := sub.Long
		if text == "" {
			text = sub.Short
		}
		p.text(text)
		sub.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" {
				p.line(".TP\n.B \\-\\-%s", roff(f.Name))
				p.text(f.Usage + def(f))
			}
		})
		p.commands(sub)
	}
}

func def(f *pflag.Flag) string {
	if f.DefValue == "" || f.DefValue == "false" || f.DefValue == "[]" {
		return ""
	}
	return " (" + f.DefValue + ")"
}

// roff keeps text from being read as requests of roff.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return strings.ReplaceAll(s, "\n.", "\n\\&.")
}
