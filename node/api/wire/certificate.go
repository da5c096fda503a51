package wire

import "time"

// Certificate is the one that browsers and programs see.
type Certificate struct {
	Organisation bool      `json:"organisation" doc:"It is the organisation's own; false: the internal one"`
	Names        []string  `json:"names"`
	Issuer       string    `json:"issuer"`
	From         time.Time `json:"from"`
	Until        time.Time `json:"until"`
	Warning      string    `json:"warning,omitempty" doc:"What to do about it"`
}

// CertificateNames says what a certificate is asked for.
type CertificateNames struct {
	Names        []string `json:"names,omitempty" maxItems:"100" doc:"Host names and addresses; empty: those of this node"`
	Organisation string   `json:"organisation,omitempty" maxLength:"200"`
}

// SigningRequest is for the organisation's authority.
type SigningRequest struct {
	Request string `json:"request" doc:"PKCS #10, PEM"`
}

// CertificateChain is the authority's answer.
type CertificateChain struct {
	Chain string `json:"chain" maxLength:"50000" doc:"PEM: the certificate and those that signed it, up to the root"`
}
