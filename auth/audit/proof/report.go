package proof

import (
	"fmt"
	"html"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// reportData is what report.html tells.
type reportData struct {
	cp          Checkpoint
	note        []byte
	from, to    uint64
	fingerprint string
	summary     *summary
	policies    []string
}

// reportStyle prints well on paper: black on white, tables that break between
// rows, nothing fetched.
const reportStyle = `
:root{color-scheme:light}
body{font:15px/1.5 system-ui,"Segoe UI",sans-serif;color:#1a1c1f;background:#fff;max-width:52rem;margin:2.5rem auto;padding:0 1.5rem}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem;break-after:avoid}
p{margin:.5rem 0}.sub{color:#555b64}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d9dce1;vertical-align:top;overflow-wrap:anywhere}
th{font-weight:600}thead th{border-bottom:2px solid #1a1c1f}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr{break-inside:avoid}code,pre{font:13px/1.45 ui-monospace,Menlo,Consolas,monospace}
pre{background:#f4f5f7;border:1px solid #d9dce1;border-radius:6px;padding:.75rem 1rem;white-space:pre-wrap;overflow-wrap:anywhere}
@media print{body{margin:0;max-width:none;font-size:11pt}pre{background:none}}
@page{margin:18mm}
`

// writeReport writes a page that stands alone: no script, nothing fetched.
func writeReport(w io.Writer, d reportData) {
	fmt.Fprintf(w, `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Audit records %s of %s</title><style>%s</style></head><body><main>
<h1>Audit records %s</h1><p class="sub">%s</p>
`, rangeWords(d.from, d.to), html.EscapeString(d.cp.Origin), reportStyle, rangeWords(d.from, d.to), html.EscapeString(d.cp.Origin))
	writeFacts(w, d)
	writeCounts(w, "Records by kind", "Kind", sorted(d.summary.kinds))
	writeCounts(w, "What was asked for", "Action", sorted(d.summary.actions))
	writeCounts(w, "How it ended", "Status", sorted(d.summary.outcomes))
	writeRefusals(w, d.summary)
	if len(d.policies) > 0 {
		io.WriteString(w, "<h2>Policies in force at the export</h2><ul>\n")
		for _, id := range d.policies {
			fmt.Fprintf(w, "<li><code>%s</code></li>\n", html.EscapeString(id))
		}
		io.WriteString(w, "</ul>\n")
	}
	writeHowTo(w, d)
	io.WriteString(w, "</main></body></html>\n")
}

// rangeWords says which records a range holds.
func rangeWords(from, to uint64) string {
	if from == to {
		return "(none)"
	}
	return fmt.Sprintf("%d to %d", from, to-1)
}

func writeFacts(w io.Writer, d reportData) {
	s := d.summary
	io.WriteString(w, "<table><tbody>\n")
	row := func(name, value string) {
		fmt.Fprintf(w, `<tr><th scope="row">%s</th><td>%s</td></tr>`+"\n", name, html.EscapeString(value))
	}
	row("Records in this bundle", fmt.Sprint(s.records))
	row("Records in the log", fmt.Sprint(d.cp.Size))
	if s.records > 0 {
		row("First record", stamp(s.first))
		row("Last record", stamp(s.last))
	}
	row("Refused", fmt.Sprint(s.refused))
	row("Checkpoint of", stamp(d.cp.Time))
	row("Root of the log", tlog.Hash(d.cp.Root).String())
	row("Epoch", fmt.Sprint(d.cp.Epoch))
	row("Log key", d.fingerprint)
	io.WriteString(w, "</tbody></table>\n")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 UTC") }

func writeCounts(w io.Writer, title, column string, rows []counted) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(w, `<h2>%s</h2><table><thead><tr><th scope="col">%s</th><th scope="col" class="n">Records</th></tr></thead><tbody>`+"\n", title, column)
	for _, r := range rows {
		fmt.Fprintf(w, `<tr><td>%s</td><td class="n">%d</td></tr>`+"\n", html.EscapeString(orDash(r.name)), r.n)
	}
	io.WriteString(w, "</tbody></table>\n")
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func writeRefusals(w io.Writer, s *summary) {
	if len(s.refusals) == 0 {
		return
	}
	io.WriteString(w, "<h2>Refusals</h2>\n")
	if s.refused > uint64(len(s.refusals)) {
		fmt.Fprintf(w, "<p>The first %d of %d; all stand in records.csv.</p>\n", len(s.refusals), s.refused)
	}
	io.WriteString(w, `<table><thead><tr><th scope="col" class="n">Record</th><th scope="col">Time</th><th scope="col">Who</th><th scope="col">Action</th><th scope="col">On</th><th scope="col">Policy</th></tr></thead><tbody>`+"\n")
	for _, r := range s.refusals {
		fmt.Fprintf(w, `<tr><td class="n">%d</td>`, r.seq)
		for _, cell := range []string{stamp(r.time), r.actor, r.action, r.resource, strings.Trim(r.policies, "[]")} {
			fmt.Fprintf(w, "<td>%s</td>", html.EscapeString(orDash(cell)))
		}
		io.WriteString(w, "</tr>\n")
	}
	io.WriteString(w, "</tbody></table>\n")
}

func writeHowTo(w io.Writer, d reportData) {
	fmt.Fprintf(w, `<h2>How to verify</h2>
<p>This page proves nothing by itself. On any machine, with the bundle that it came in and the fingerprint of the log key that was noted when the system was set up, run:</p>
<pre>cloister-verify --log-key FINGERPRINT BUNDLE</pre>
<p>Use the fingerprint from your own notes, not the one printed here. Add <code>--after FILE</code> with a checkpoint that you took away earlier, to prove that nothing was cut from the log or rewritten since. Keep the checkpoint below for the next time.</p>
<pre>%s</pre>
`, html.EscapeString(string(d.note)))
}
