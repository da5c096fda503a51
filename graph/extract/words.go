package extract

// What a full stop behind a word means, English and German.
var (
	// never ends a sentence.
	never = words("mr mrs ms dr prof st gen col capt lt sgt rev hon e.g eg i.e ie cf vs viz approx resp incl excl dept est " +
		"z.b d.h u.a bzw ca evtl ggf sog vgl usw.w inkl exkl abt hr fr")
	// mayEnd ends one when a capital follows.
	mayEnd = words("etc a.m p.m am pm inc ltd corp co jr sr bros al usw u.s.w")
	// beforeNumber is no end when a number follows.
	beforeNumber = words("no nr fig figs sec ch chap p pp vol ver art para eq ref tab abb s kap bd")
	months       = words("januar februar märz april mai juni juli august september oktober november dezember jan feb mär apr jun jul aug sep sept okt nov dez")
)

func words(list string) map[string]bool {
	m := map[string]bool{}
	word := ""
	for _, r := range list + " " {
		if r != ' ' {
			word += string(r)
			continue
		}
		m[word] = true
		word = ""
	}
	return m
}
