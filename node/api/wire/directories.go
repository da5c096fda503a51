package wire

import "time"

// NewDirectory is a directory to join, or to test before that.
type NewDirectory struct {
	Name         string   `json:"name" maxLength:"40" doc:"Small letters, digits and hyphens; part of each person's id"`
	Servers      []string `json:"servers" maxItems:"8" doc:"ldaps://host[:port], or ldap://host[:port] for StartTLS; asked in this order"`
	CA           string   `json:"ca" maxLength:"32768" doc:"PEM certificate of the authority that signed the servers' certificates"`
	BindDN       string   `json:"bind_dn" maxLength:"1024" doc:"The service account that searches"`
	BindPassword string   `json:"bind_password" maxLength:"1024" doc:"Its password; kept sealed and never shown"`
	Base         string   `json:"base" maxLength:"1024" doc:"People are below it"`
	GroupBase    string   `json:"group_base,omitempty" maxLength:"1024" doc:"Groups are below it; the base when left out"`
	Kind         string   `json:"kind,omitempty" maxLength:"10" doc:"ad or ldap; asked of the server when left out"`
	LoginAttrs   []string `json:"login_attributes,omitempty" maxItems:"8" doc:"What people sign in with; by kind when left out"`
	Filter       string   `json:"filter,omitempty" maxLength:"4096" doc:"An LDAP filter that people must match beside"`
	Anyway       bool     `json:"anyway,omitempty" doc:"Join it even though the test did not end well"`
}

// Directory is a directory that was joined, without its password.
type Directory struct {
	Name       string          `json:"name"`
	Servers    []string        `json:"servers"`
	BindDN     string          `json:"bind_dn"`
	Base       string          `json:"base"`
	GroupBase  string          `json:"group_base,omitempty"`
	Kind       string          `json:"kind,omitempty"`
	LoginAttrs []string        `json:"login_attributes,omitempty"`
	Filter     string          `json:"filter,omitempty"`
	First      bool            `json:"first" doc:"Names that carry no directory are looked for here"`
	Added      time.Time       `json:"added"`
	Roles      []DirectoryRole `json:"roles"`
	DirectoryHeard
}

// DirectoryHeard says how it goes with asking a directory about the people who
// are signed in.
type DirectoryHeard struct {
	People      int        `json:"people" doc:"Signed in, as of the last answer"`
	Answered    *time.Time `json:"answered,omitempty" doc:"When it last answered for all of them"`
	SilentSince *time.Time `json:"silent_since,omitempty"`
	SilentWhy   string     `json:"silent_why,omitempty"`
	TookMS      int64      `json:"took_ms,omitempty"`
}

// DirectoryRole is a role that a group gives.
type DirectoryRole struct {
	Group string    `json:"group" doc:"The group's id"`
	Name  string    `json:"name" doc:"As it was when the role was given"`
	Role  string    `json:"role"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
}

// NewDirectoryRole lets a group give a role.
type NewDirectoryRole struct {
	Group string `json:"group" maxLength:"36" doc:"The group's id, as the list of groups shows it"`
	Role  string `json:"role" maxLength:"20" doc:"administrator, builder, user, approver, auditor or operator"`
}

// DirectoryGroup is a group of a directory.
type DirectoryGroup struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	DN   string `json:"dn"`
}

// DirectoryGroups is groups of a directory, by name.
type DirectoryGroups struct {
	Groups []DirectoryGroup `json:"groups"`
	More   bool             `json:"more" doc:"There are more: give more letters of the name"`
}

// DirectoryTest says what to look for beside the connection.
type DirectoryTest struct {
	Person string `json:"person,omitempty" maxLength:"512" doc:"The name that somebody signs in with; their password is not needed"`
}

// TestDirectory is a test of settings that need not be joined.
type TestDirectory struct {
	NewDirectory
	DirectoryTest
}

// DirectoryReport is what a test of the connection saw, in order.
type DirectoryReport struct {
	OK     bool             `json:"ok"`
	Steps  []DirectoryStep  `json:"steps"`
	Person *DirectoryPerson `json:"person,omitempty"`
}

// DirectoryStep is one step of a test.
type DirectoryStep struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Saw  string `json:"saw"`
	Next string `json:"next,omitempty" doc:"What to do about it"`
}

// DirectoryPerson is the person whom a test looked for.
type DirectoryPerson struct {
	ID     string           `json:"id"`
	Login  string           `json:"login"`
	Name   string           `json:"name"`
	DN     string           `json:"dn"`
	State  string           `json:"state"`
	Groups []DirectoryGroup `json:"groups"`
}

// DirectoryShort is how it goes with a directory.
type DirectoryShort struct {
	Name string `json:"name"`
	DirectoryHeard
}
