package graph

// Outline is how a document's extracted text is divided. Every sentence lies in
// exactly one section; ranges never overlap and grow.
type Outline struct {
	V        uint      `cbor:"0,keyasint"`
	Sections []Section `cbor:"1,keyasint"`
}

// Section is a part of a document under one heading. The part before the first
// heading has an empty path.
type Section struct {
	Path      []string `cbor:"0,keyasint,omitempty"` // headings from the outermost to this one
	Anchor    string   `cbor:"1,keyasint,omitempty"` // fragment of its heading, without '#'
	Start     int      `cbor:"2,keyasint"`           // byte range in the extracted text, heading included
	End       int      `cbor:"3,keyasint"`
	Sentences []Range  `cbor:"4,keyasint,omitempty"` // heading excluded
}

// Range is a sentence: the bytes [Start, End) of the extracted text.
type Range struct {
	_         struct{} `cbor:",toarray"`
	Start     int
	End       int
	Paragraph int // counts from 0 in the document: which paragraph, list item or table row it is of
}
