package rank

import "github.com/cloister-os/cloister/graph/search/lex"

// families are words that people use for one another when they ask about work
// and about software. They are written by hand from general usage, not from any
// test set; a word may be in several. They are a help where no embedding model
// is installed, and weigh less than the word itself.
var families = []string{
	"own owner owned responsible responsibility maintain maintainer maintained charge steward accountable care",
	"limit maximum max cap ceiling upper most bound quota allowed allow",
	"minimum least lowest floor min",
	"retention retain keep kept store stored preserve hold history purge delete expire remove discard archive",
	"timeout expire expiry expiration wait deadline ttl lifetime valid abort",
	"default standard initial preset",
	"interval frequency often every period cadence schedule rhythm",
	"port listen bind socket endpoint",
	"start begin launch boot commence kick initiate startup",
	"stop end finish shut shutdown terminate halt cease",
	"add introduce create new launch ship land appear establish found",
	"remove delete drop erase purge retire deprecate sunset discontinue",
	"change modify edit update alter touch amend revise adjust tweak",
	"write author wrote compose draft pen create",
	"fix repair correct resolve patch mend solve",
	"fail failure error crash break outage incident fault",
	"retry attempt repeat again reattempt tries try",
	"back backup copy snapshot replica dump",
	"restore recover recovery rollback revert",
	"contact reach call phone mail email notify alert page escalate",
	"store storage save persist keep",
	"encrypt encryption cipher crypto cryptographic encrypted",
	"sign signature signed signing key",
	"permission access right allow permit authorize grant role",
	"user customer client account person people",
	"employee staff worker member personnel",
	"test check verify validate validation examine inspect",
	"approve approval accept confirm sign authorize review reviewer",
	"meeting sync standup call session gathering meet",
	"located location place site live where sit based reside house host situated",
	"run execute operate operated happen occur perform",
	"build built compile construct make made",
	"deploy deployment release rollout ship publish",
	"install installation setup deploy",
	"language written implemented programmed coded",
	"cost price fee charge pay expense rate amount spend budget money",
	"size large big space capacity volume",
	"fast quick quickly speed rapid latency slow performance",
	"increase raise grow rise boost more",
	"decrease reduce lower cut shrink decline drop less",
	"big large huge great major",
	"small little tiny minor",
	"buy purchase acquire obtain procure",
	"sell sold sale vend market",
	"win won beat defeat victory triumph",
	"lose lost defeat",
	"leader head chief lead boss director manager president chair run",
	"build construct erect",
	"teach instruct train educate lecture",
	"live reside inhabit dwell",
	"begin start open opened",
	"name call known title term refer label named",
	"show display present reveal view render",
	"send transmit deliver forward dispatch emit submit",
	"receive get accept obtain",
	"guide manual handbook document documentation runbook tutorial reference instruction",
	"explain describe cover detail discuss document outline",
	"policy rule regulation guideline requirement",
	"log record journal trace audit entry",
	"queue backlog buffer",
	"worker thread process parallel concurrent concurrency",
	"service system component server application",
	"team group squad crew department",
	"house home building",
	"color colour",
	"company firm business corporation enterprise vendor supplier",
	"provide supply offer give serve",
	"help assist support aid",
	"use utilize employ apply rely",
	"need require requirement necessary must demand",
	"contain include hold comprise consist",
	"number count total amount quantity many",
	"refresh renew rotate rotation reload renewed cycle",
	"sync synchronize replicate mirror",
	"password secret credential passphrase token",
	"format encoding encode serialize serialization",
	"region zone datacenter centre center site location",
	"week weekly", "day daily", "month monthly", "year yearly annual annually", "hour hourly",
	"night nightly midnight",
	"first initial initially original originally earliest",
	"last latest final recent recently newest",
	"choose pick select decide choice",
	"replace substitute swap supersede successor",
	"load traffic throughput demand handle carry process serve",
	"licence license licensed permit",
	"launch live debut golive start release",
	"replace predecessor successor before after succeed precede",
	"replica copy instance",
	"machine host server computer box",
	"available availability uptime",
	"large largest big size long length",
	"parent origin source upstream",
	"threshold limit trigger level",
	"cause reason lead why because due",
	"money fund funding finance budget",
	"kill die death dead died",
	"born birth",
	"doctor physician",
	"wife husband spouse marry married",
	"film movie",
	"song music track",
	"author writer",
	"fight battle war combat",
	"law legislation act statute",
	"job work occupation profession employment role",
	"popular famous well-known common",
	"oppose against resist",
}

var familyOf = groupFamilies()

// groupFamilies maps each stem to the families that it belongs to.
func groupFamilies() map[string][]int {
	out := map[string][]int{}
	for i, f := range families {
		for _, stem := range lex.Stems(f) {
			out[stem] = append(out[stem], i)
		}
	}
	return out
}

func related(a, b string) bool {
	fa := familyOf[a]
	if len(fa) == 0 {
		return false
	}
	for _, x := range familyOf[b] {
		for _, y := range fa {
			if x == y {
				return true
			}
		}
	}
	return false
}

// Related returns the stems of the families that a stem belongs to, itself left
// out: other words by which a document may say it.
func Related(stem string) []string {
	seen := map[string]bool{stem: true}
	var out []string
	for _, f := range familyOf[stem] {
		for _, s := range lex.Stems(families[f]) {
			if !seen[s] {
				seen[s] = true
				out = append(out, s)
			}
		}
	}
	return out
}
