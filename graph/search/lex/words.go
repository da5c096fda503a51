package lex

// IsStop reports whether a folded word carries no content of its own.
func IsStop(word string) bool { return stops[word] }

var stops = set(`a an and are as at be been being but by can could did do does doing for from
had has have having he her hers him his how i if in into is it its itself may me might
must my no nor not of on one's or our ours shall she should so some such than that the
their theirs them then there these they this those to too up us very was we were what
when where which while who whom whose why will with would you your yours about after
again all also am any because before both during each few here just let more most much
only other over own same s t don't doesn't didn't isn't aren't wasn't weren't i'm it's
what's who's where's when's that's there's please tell give show know say says said
according exactly us cannot can't won't many under per via`)

// numberWords maps the numbers that texts spell out to digits.
var numberWords = map[string]string{
	"zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
	"seven": "7", "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12",
	"thirteen": "13", "fourteen": "14", "fifteen": "15", "sixteen": "16", "seventeen": "17",
	"eighteen": "18", "nineteen": "19", "twenty": "20", "thirty": "30", "forty": "40",
	"fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
	"hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000",
}

// irregular maps forms that Porter's algorithm cannot bring together.
var irregular = map[string]string{
	"ran": "run", "built": "build", "wrote": "write", "written": "write", "began": "begin",
	"begun": "begin", "made": "make", "went": "go", "gone": "go", "came": "come",
	"took": "take", "taken": "take", "gave": "give", "given": "give", "kept": "keep",
	"held": "hold", "sent": "send", "spent": "spend", "lost": "lose", "won": "win",
	"found": "find", "left": "leave", "led": "lead", "met": "meet", "paid": "pay",
	"chose": "choose", "chosen": "choose", "grew": "grow", "grown": "grow", "knew": "know",
	"known": "know", "said": "say", "sold": "sell", "bought": "buy", "brought": "bring",
	"thought": "think", "taught": "teach", "caught": "catch", "fell": "fall",
	"fallen": "fall", "saw": "see", "seen": "see", "children": "child", "people": "person",
	"men": "man", "women": "woman", "stood": "stand", "spoke": "speak", "spoken": "speak",
	"broke": "break", "broken": "break", "drew": "draw", "drawn": "draw", "drove": "drive",
	"driven": "drive", "rose": "rise", "risen": "rise", "threw": "throw", "thrown": "throw",
	"wore": "wear", "worn": "wear", "lay": "lie", "laid": "lay", "meant": "mean",
	"fed": "feed", "fought": "fight", "sought": "seek", "became": "become", "shot": "shoot",
	"sang": "sing", "sung": "sing", "swam": "swim", "stole": "steal", "stolen": "steal",
	"slept": "sleep", "sat": "sit", "dealt": "deal", "bound": "bind", "froze": "freeze",
	"frozen": "freeze", "hid": "hide", "hidden": "hide", "shown": "show", "done": "do",
}

func set(list string) map[string]bool {
	out := map[string]bool{}
	start := -1
	for i := range len(list) + 1 {
		blank := i == len(list) || list[i] == ' ' || list[i] == '\n' || list[i] == '\t'
		switch {
		case !blank && start < 0:
			start = i
		case blank && start >= 0:
			out[list[start:i]] = true
			start = -1
		}
	}
	return out
}
