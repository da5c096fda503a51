package view

import "time"

// Directories is what people sign in by, beside local accounts.
type Directories struct{ List []Directory }

// Directory is one that was joined.
type Directory struct {
	Name, Base  string
	Servers     []string
	First       bool // names that carry no directory are looked for here
	Tone        Tone
	State       string // "joined", "answers", "silent"
	Why         string // it is silent, and what that means
	People      int    // signed in
	Added       time.Time
	Roles       []DirectoryRole
	ServiceName string // the account that searches
}

// DirectoryRole is a role that a group gives.
type DirectoryRole struct {
	Group, Name, Role string // Group is the group's id
	At                time.Time
}

// DirectoryGroup is a group of a directory.
type DirectoryGroup struct {
	ID, Name, DN string
	Gives        []string // roles
}

// DirectoryGroups is a look for groups.
type DirectoryGroups struct {
	Directory, Search string
	Looked            bool
	List              []DirectoryGroup
	More              bool
	Roles             []string
	Notice            *Notice
}

// DirectoryForm joins a directory.
type DirectoryForm struct {
	Name, Servers, CA, BindDN, Base, GroupBase, Filter, Person string
	Kinds                                                      []Choice
	Wrong                                                      map[string]string
	Notice                                                     *Notice
	Report                                                     *DirectoryReport
}

// DirectoryTest walks the connection of one that was joined.
type DirectoryTest struct {
	Directory, Person string
	Report            *DirectoryReport
	Notice            *Notice
}

// DirectoryReport is what a walk saw.
type DirectoryReport struct {
	OK     bool
	Steps  []DirectoryStep
	Person *DirectoryPerson
}

// DirectoryStep is one step of it.
type DirectoryStep struct {
	What, Saw, Next string
	OK              bool
}

// DirectoryPerson is whom a walk looked for.
type DirectoryPerson struct {
	Name, Login, DN, State string
	Groups                 []DirectoryGroup
}
