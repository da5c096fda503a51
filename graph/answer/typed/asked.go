package typed

import (
	"slices"
	"strings"

	"github.com/cloister-os/cloister/graph/search/lex"
)

// Asked returns the kind of thing that a question asks for.
func Asked(question string) Kind {
	tokens := lex.Tokens(question)
	words := make([]string, len(tokens))
	for i, t := range tokens {
		words[i] = t.Text
	}
	k := asked(words)
	if k == Any || k == Number {
		if m := measured(words); m != Any {
			return m
		}
	}
	return k
}

// measured knows questions whose verb says what is asked: "what does it cost".
func measured(words []string) Kind {
	if len(words) == 0 || words[0] != "what" && words[0] != "how" {
		return Any
	}
	switch words[len(words)-1] {
	case "cost", "costs":
		return Money
	case "weigh", "measure":
		return Number
	}
	return Any
}

// puts are the words that say what kind of thing is asked and nothing else, so
// that a span of the kind answers them as well as the word itself would.
var puts = map[Kind][]string{
	Date:     {"date", "day", "year", "month", "time", "weekday", "century", "decade", "deadline", "exactly"},
	Number:   {"number", "amount", "count", "many", "total"},
	Duration: {"long", "often", "frequently", "quickly", "soon", "fast", "interval", "period", "duration", "frequency", "time", "many"},
	Money:    {"much", "price", "amount", "money"},
	Percent:  {"percentage", "percent", "proportion", "share", "much"},
	Size:     {"large", "big", "size", "much", "many", "heavy"},
	Version:  {"version", "release"},
	Name:     {"person", "name", "people"},
	Address:  {"address", "url", "link"},
	Path:     {"path", "file", "filename"},
}

// Puts reports whether a folded word says no more than that a thing of the kind
// is asked for.
func Puts(kind Kind, word string) bool { return slices.Contains(puts[kind], word) }

func asked(words []string) Kind {
	for i, w := range words {
		rest := words[i+1:]
		switch w {
		case "when":
			return Date
		case "who", "whom", "whose", "who's":
			return Name
		case "where":
			return Place
		case "how":
			if k := askedHow(rest); k != Any {
				return k
			}
		case "what", "which", "what's":
			if k := askedNoun(rest); k != Any {
				return k
			}
		case "since":
			if len(rest) > 0 && rest[0] == "when" {
				return Date
			}
		}
	}
	return Any
}

func askedHow(rest []string) Kind {
	if len(rest) == 0 {
		return Any
	}
	switch rest[0] {
	case "many":
		if len(rest) > 1 {
			if k, ok := nounKinds[rest[1]]; ok && (k == Duration || k == Size || k == Money || k == Percent) {
				return k
			}
		}
		return Number
	case "much":
		return howMuch(rest[1:])
	case "long", "often", "frequently", "soon", "quickly":
		return Duration
	case "old", "tall", "high", "far", "wide", "deep", "fast", "heavy":
		return Number
	case "large", "big":
		return Number
	}
	return Any
}

func howMuch(rest []string) Kind {
	for _, w := range rest {
		switch lex.Stem(w) {
		case "cost", "money", "pay", "price", "spend", "worth", "charg":
			return Money
		case "time":
			return Duration
		case "disk", "memori", "storag", "space", "ram":
			return Size
		}
	}
	return Number
}

// nounReach is how many words after "what" or "which" are looked at for the
// noun that says what is asked.
const nounReach = 4

// askedNoun finds the noun in "what year", "which port", "what is the maximum
// number of …".
func askedNoun(rest []string) Kind {
	reach := nounReach
	if len(rest) > 0 && (rest[0] == "is" || rest[0] == "was" || rest[0] == "are" || rest[0] == "were") {
		reach += 2
	}
	found := Any
	for i, w := range rest {
		if i >= reach || i > 0 && stopsNoun[w] {
			break
		}
		k, ok := nounKinds[w]
		if !ok {
			k, ok = nounKinds[strings.TrimSuffix(w, "s")]
		}
		if ok {
			found = k // the last noun of the phrase is its head: "maximum message size"
		}
	}
	return found
}

// stopsNoun ends the noun phrase that follows "what" or "which".
var stopsNoun = map[string]bool{
	"did": true, "does": true, "do": true, "for": true, "by": true, "in": true, "on": true,
	"has": true, "have": true, "had": true, "that": true, "of": true, "should": true, "must": true,
	"can": true, "will": true, "at": true, "to": true, "with": true, "from": true,
}

// nounKinds says what form the answer to "what <noun>" has.
var nounKinds = map[string]Kind{
	"year": Date, "date": Date, "day": Date, "month": Date, "century": Date, "decade": Date,
	"weekday": Date, "deadline": Date, "o'clock": Date,
	"number": Number, "amount": Number, "count": Number, "port": Number, "total": Number,
	"limit": Number, "maximum": Number, "minimum": Number, "quota": Number, "score": Number,
	"population": Number, "distance": Number, "height": Number, "temperature": Number,
	"percentage": Percent, "percent": Percent, "proportion": Percent, "fraction": Percent,
	"share": Percent,
	"price": Money, "cost": Money, "fee": Money, "salary": Money, "budget": Money,
	"interval": Duration, "timeout": Duration, "duration": Duration, "period": Duration,
	"frequency": Duration, "ttl": Duration, "lifetime": Duration, "hours": Duration,
	"minutes": Duration, "seconds": Duration, "days": Duration, "weeks": Duration,
	"months": Duration, "years": Duration,
	"size": Size, "capacity": Size, "bytes": Size, "megabytes": Size, "gigabytes": Size,
	"version": Version, "release": Version,
	"person": Name, "people": Name, "author": Name, "name": Name, "team": Name, "company": Name,
	"city": Name, "country": Name, "state": Name, "town": Name, "organization": Name,
	"organisation": Name, "engineer": Name, "manager": Name, "group": Name, "owner": Name,
	"player": Name, "president": Name, "university": Name, "river": Name, "developer": Name,
	"address": Address, "url": Address, "mail": Address, "email": Address, "endpoint": Address, "location": Place, "place": Place, "room": Place, "site": Place, "machine": Place, "host": Place, "server": Place,
	"link": Address, "path": Path, "folder": Path, "directory": Path, "file": Path,
	"filename": Path,
}

// Accepts reports whether a span of kind k can answer a question that asks for
// want. "How many" accepts anything that is counted.
func Accepts(want, k Kind) bool {
	if want == k || want == Any {
		return true
	}
	switch want {
	case Date:
		return k == Duration // "every night"
	case Number:
		return k == Percent || k == Money || k == Size || k == Duration || k == Version
	case Size, Money:
		return k == Number
	case Version:
		return k == Number
	case Place:
		return k == Name || k == Path || k == Address
	case Address, Path:
		return k == Path || k == Address
	}
	return false
}
