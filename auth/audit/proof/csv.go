package proof

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// csvHead is the first line of records.csv.
const csvHead = "seq,version,time,id,kind,actor_kind,actor_id,on_behalf_of,action,resource_type,resource_id," +
	"decision,policies,args_sha256,run,use_case,intent,status,error,cost_nano_usd,usage,detail,personal,node\r\n"

// appendCSV writes a record as a line of records.csv (RFC 4180). The table is
// nothing but records.jsonl told again, and Verify tells it again to compare.
func appendCSV(b []byte, line Line, l *leaf) []byte {
	b = strconv.AppendUint(b, line.Seq, 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, line.Version, 10)
	b = append(b, ',')
	b = line.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	for _, cell := range [...][]byte{
		l.id, l.kind, l.actorKind, l.actorID, l.onBehalfOf, l.action, l.resourceType, l.resourceID,
		l.decision, l.policies, l.args, l.run, l.useCase, l.intent, l.status, l.err, l.cost, l.usage,
		l.detail, l.personal, l.node,
	} {
		b = append(b, ',')
		b = appendCell(b, cell)
	}
	return append(b, "\r\n"...)
}

// appendCell quotes where needed. A cell that a spreadsheet would take for a
// formula gets an apostrophe in front.
func appendCell(b, s []byte) []byte {
	if len(s) == 0 {
		return b
	}
	formula := strings.IndexByte("=+-@\t\r", s[0]) >= 0
	if !formula && !bytes.ContainsAny(s, ",\"\r\n") {
		return append(b, s...)
	}
	b = append(b, '"')
	if formula {
		b = append(b, '\'')
	}
	b = append(b, bytes.ReplaceAll(s, []byte{'"'}, []byte(`""`))...)
	return append(b, '"')
}
