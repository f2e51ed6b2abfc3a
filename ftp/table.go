package ftp

import (
	"slices"
	"strings"
)

// phase says when a command is possible.
type phase uint8

const (
	anyTime   phase = iota // before and after log-in
	preLogin               // only before log-in
	afterUser              // only after USER
	loggedIn               // only after log-in
)

func (p phase) String() string {
	return [...]string{"any time", "before log-in", "after USER", "after log-in"}[p]
}

type argRule uint8

const (
	noArg  argRule = iota // an argument is an error
	mayArg                // optional
	mustArg
)

type flags uint8

const (
	during  flags = 1 << iota // legal while a transfer runs
	secret                    // the argument must not be logged
	keeps                     // leaves REST, RANG and ALLO in force
	partner                   // is the second half of RNFR or CPFR
	hidden                    // not in HELP (aliases)
	isPath                    // the argument is a path and may hold NUL
	moves                     // opens a data connection
)

// command is one row of the command table. Everything that must know about
// commands - dispatch, HELP, FEAT, redaction, the reference page - reads it.
type command struct {
	name   string
	syntax string // of the argument
	phase  phase
	arg    argRule
	flags  flags
	feat   string // line in FEAT; "" none; a function of the connection is featFor
	rfc    string // source
	help   string // one sentence
	run    func(c *Conn, arg string) Reply
}

// commands is filled by init because HELP and FEAT read it (initialization cycle).
var commands []command

var byName map[string]*command

func init() {
	commands = slices.Concat(accessCommands(), parameterCommands(), securityCommands(), transferCommands(), fileCommands(), factCommands(), hashCommands(), miscCommands())
	slices.SortFunc(commands, func(a, b command) int { return strings.Compare(a.name, b.name) })
	byName = make(map[string]*command, len(commands))
	for i := range commands {
		byName[commands[i].name] = &commands[i]
	}
	siteCommands = siteTable()
}

func accessCommands() []command {
	return []command{
		{"USER", "name", anyTime, mustArg, 0, "", "RFC 959 section 4.1.1", "Name the user to log in.", (*Conn).cmdUSER},
		{"PASS", "password", anyTime, mayArg, secret, "", "RFC 959 section 4.1.1", "Give the password.", (*Conn).cmdPASS},
		{"ACCT", "account", anyTime, mustArg, secret, "", "RFC 959 section 4.1.1", "Give an account; none is needed here.", (*Conn).cmdACCT},
		{"CWD", "directory", loggedIn, mustArg, isPath, "", "RFC 959 section 4.1.1", "Change the working directory.", (*Conn).cmdCWD},
		{"XCWD", "directory", loggedIn, mustArg, isPath | hidden, "", "RFC 775", "Change the working directory.", (*Conn).cmdCWD},
		{"CDUP", "", loggedIn, noArg, 0, "", "RFC 959 section 4.1.1", "Change to the parent directory.", (*Conn).cmdCDUP},
		{"XCUP", "", loggedIn, noArg, hidden, "", "RFC 775", "Change to the parent directory.", (*Conn).cmdCDUP},
		{"SMNT", "path", loggedIn, mustArg, isPath, "", "RFC 959 section 4.1.1", "Mount another file system; not offered.", (*Conn).cmdSMNT},
		{"REIN", "", anyTime, noArg, 0, "", "RFC 959 section 4.1.1", "Log out and start anew on this connection.", (*Conn).cmdREIN},
		{"QUIT", "", anyTime, mayArg, during, "", "RFC 959 section 4.1.1", "End the session, after a running transfer.", (*Conn).cmdQUIT},
		{"HOST", "name", preLogin, mustArg, 0, "HOST", "RFC 7151 section 3", "Name the host that is wanted.", (*Conn).cmdHOST},
	}
}

func parameterCommands() []command {
	return []command{
		{"PORT", "h1,h2,h3,h4,p1,p2", loggedIn, mustArg, keeps, "", "RFC 959 section 4.1.2", "Have the server open the data connection (IPv4).", (*Conn).cmdPORT},
		{"PASV", "", loggedIn, noArg, keeps, "", "RFC 959 section 4.1.2", "Open a port for the data connection (IPv4).", (*Conn).cmdPASV},
		{"EPRT", "|family|address|port|", loggedIn, mustArg, keeps, "EPRT", "RFC 2428 section 2", "Have the server open the data connection (IPv4, IPv6).", (*Conn).cmdEPRT},
		{"EPSV", "[1 | 2 | ALL]", loggedIn, mayArg, keeps, "EPSV", "RFC 2428 section 3", "Open a port for the data connection (IPv4, IPv6).", (*Conn).cmdEPSV},
		{"TYPE", "A [N] | I | L 8", loggedIn, mustArg, keeps, "", "RFC 959 section 4.1.2", "Choose ASCII or binary transfers.", (*Conn).cmdTYPE},
		{"STRU", "F", loggedIn, mustArg, keeps, "", "RFC 959 section 4.1.2", "Choose the file structure; only F.", (*Conn).cmdSTRU},
		{"MODE", "S", loggedIn, mustArg, keeps, "", "RFC 959 section 4.1.2", "Choose the transfer mode; only S.", (*Conn).cmdMODE},
		{"ALLO", "bytes [R bytes]", loggedIn, mustArg, keeps, "", "RFC 959 section 4.1.3", "Announce the size of the next upload.", (*Conn).cmdALLO},
		{"REST", "offset", loggedIn, mustArg, keeps, "REST STREAM", "RFC 3659 section 5", "Start the next transfer at this byte.", (*Conn).cmdREST},
		{"RANG", "first last", loggedIn, mustArg, keeps, "RANG STREAM", "draft-bryan-ftp-range section 3", "Limit the next transfer to these bytes.", (*Conn).cmdRANG},
		{"OPTS", "command [options]", anyTime, mustArg, 0, "", "RFC 2389 section 4", "Set options of a command.", (*Conn).cmdOPTS},
		{"LANG", "[tag]", anyTime, mayArg, 0, "LANG EN*", "RFC 2640 section 4.1", "Choose the language of replies; English only.", (*Conn).cmdLANG},
	}
}

func securityCommands() []command {
	return []command{
		{"AUTH", "TLS | SSL", anyTime, mustArg, 0, "AUTH TLS", "RFC 4217 section 4.1", "Protect the control connection.", (*Conn).cmdAUTH},
		{"ADAT", "data", anyTime, mustArg, secret, "", "RFC 2228 section 3", "Security data; TLS needs none.", (*Conn).cmdADAT},
		{"PBSZ", "0", anyTime, mustArg, 0, "PBSZ", "RFC 4217 section 8", "Protection buffer size; always 0 with TLS.", (*Conn).cmdPBSZ},
		{"PROT", "C | P", anyTime, mustArg, 0, "PROT", "RFC 4217 section 9", "Choose clear or private data connections.", (*Conn).cmdPROT},
		{"CCC", "", anyTime, noArg, 0, "", "RFC 4217 section 6.3", "Clear the control connection after log-in.", (*Conn).cmdCCC},
		{"MIC", "message", anyTime, mustArg, secret, "", "RFC 2228 section 3", "Integrity protected command; not used with TLS.", (*Conn).cmdNotProtected},
		{"CONF", "message", anyTime, mustArg, secret, "", "RFC 2228 section 3", "Confidential command; not used with TLS.", (*Conn).cmdNotProtected},
		{"ENC", "message", anyTime, mustArg, secret, "", "RFC 2228 section 3", "Private command; not used with TLS.", (*Conn).cmdNotProtected},
	}
}

func transferCommands() []command {
	return []command{
		{"RETR", "file", loggedIn, mustArg, isPath | moves, "", "RFC 959 section 4.1.3", "Send a file to the client.", (*Conn).cmdRETR},
		{"STOR", "file", loggedIn, mustArg, isPath | moves, "", "RFC 959 section 4.1.3", "Store a file.", (*Conn).cmdSTOR},
		{"STOU", "[name]", loggedIn, mayArg, isPath | moves, "", "RFC 1123 section 4.1.2.9", "Store a file under a new name.", (*Conn).cmdSTOU},
		{"APPE", "file", loggedIn, mustArg, isPath | moves, "", "RFC 959 section 4.1.3", "Append to a file, or create it.", (*Conn).cmdAPPE},
		{"LIST", "[-alRtSrd] [path]", loggedIn, mayArg, isPath | moves, "", "RFC 959 section 4.1.3", "List a directory for people.", (*Conn).cmdLIST},
		{"NLST", "[-alRtSrd] [path]", loggedIn, mayArg, isPath | moves, "", "RFC 1123 section 4.1.2.7", "List names only.", (*Conn).cmdNLST},
		{"MLSD", "[directory]", loggedIn, mayArg, isPath | moves, "", "RFC 3659 section 7", "List a directory for programs.", (*Conn).cmdMLSD},
		{"ABOR", "", loggedIn, noArg, during, "", "RFC 959 section 4.1.3", "End the running transfer.", (*Conn).cmdABOR},
	}
}

func fileCommands() []command {
	return []command{
		{"RNFR", "path", loggedIn, mustArg, isPath, "", "RFC 959 section 4.1.3", "Name what RNTO will rename.", (*Conn).cmdRNFR},
		{"RNTO", "path", loggedIn, mustArg, isPath | partner, "", "RFC 959 section 4.1.3", "Rename what RNFR named.", (*Conn).cmdRNTO},
		{"DELE", "file", loggedIn, mustArg, isPath, "", "RFC 959 section 4.1.3", "Delete a file.", (*Conn).cmdDELE},
		{"RMD", "directory", loggedIn, mustArg, isPath, "", "RFC 959 section 4.1.3", "Remove an empty directory.", (*Conn).cmdRMD},
		{"XRMD", "directory", loggedIn, mustArg, isPath | hidden, "", "RFC 775", "Remove an empty directory.", (*Conn).cmdRMD},
		{"MKD", "directory", loggedIn, mustArg, isPath, "", "RFC 959 section 4.1.3", "Make a directory.", (*Conn).cmdMKD},
		{"XMKD", "directory", loggedIn, mustArg, isPath | hidden, "", "RFC 775", "Make a directory.", (*Conn).cmdMKD},
		{"PWD", "", loggedIn, noArg, 0, "", "RFC 959 section 4.1.3", "Print the working directory.", (*Conn).cmdPWD},
		{"XPWD", "", loggedIn, noArg, hidden, "", "RFC 775", "Print the working directory.", (*Conn).cmdPWD},
		{"COMB", "target part ...", loggedIn, mustArg, isPath, "COMB", "de facto", "Join uploaded parts into one file.", (*Conn).cmdCOMB},
		{"AVBL", "[directory]", loggedIn, mayArg, isPath, "AVBL", "draft-peterson-streamlined-ftp section 4", "Bytes that may still be stored.", (*Conn).cmdAVBL},
	}
}

func factCommands() []command {
	return []command{
		{"SIZE", "file", loggedIn, mustArg, isPath | keeps, "SIZE", "RFC 3659 section 4", "Bytes that RETR would send.", (*Conn).cmdSIZE},
		{"MDTM", "[time] file", loggedIn, mustArg, isPath | keeps, "MDTM", "RFC 3659 section 3", "Time of last change; with a time: set it.", (*Conn).cmdMDTM},
		{"MLST", "[path]", loggedIn, mayArg, isPath, "", "RFC 3659 section 7", "Facts of one file over the control connection.", (*Conn).cmdMLST},
		{"MFMT", "time path", loggedIn, mustArg, isPath, "MFMT", "draft-somers-ftp-mfxx section 3", "Set the time of last change.", (*Conn).cmdMFMT},
		{"MFCT", "time path", loggedIn, mustArg, isPath, "MFCT", "draft-somers-ftp-mfxx section 4", "Set the time of creation.", (*Conn).cmdMFCT},
		{"MFF", "fact=value;... path", loggedIn, mustArg, isPath, "", "draft-somers-ftp-mfxx section 5", "Set several facts.", (*Conn).cmdMFF},
	}
}

func hashCommands() []command {
	return []command{
		{"HASH", "file", loggedIn, mustArg, isPath, "", "draft-bryan-ftpext-hash section 3", "Hash of a file or of the range that RANG set.", (*Conn).cmdHASH},
		{"XCRC", "file [first last]", loggedIn, mustArg, isPath, "XCRC", "de facto", "CRC-32 of a file.", hashCommand("XCRC")},
		{"XMD5", "file [first last]", loggedIn, mustArg, isPath, "XMD5", "de facto", "MD5 of a file.", hashCommand("XMD5")},
		{"XSHA", "file [first last]", loggedIn, mustArg, isPath, "XSHA", "de facto", "SHA-1 of a file.", hashCommand("XSHA")},
		{"XSHA1", "file [first last]", loggedIn, mustArg, isPath, "XSHA1", "de facto", "SHA-1 of a file.", hashCommand("XSHA1")},
		{"XSHA256", "file [first last]", loggedIn, mustArg, isPath, "XSHA256", "de facto", "SHA-256 of a file.", hashCommand("XSHA256")},
		{"XSHA512", "file [first last]", loggedIn, mustArg, isPath, "XSHA512", "de facto", "SHA-512 of a file.", hashCommand("XSHA512")},
		{"MD5", "file", loggedIn, mustArg, isPath, "MD5", "draft-twine-ftpmd5 section 3.1", "MD5 of a file.", (*Conn).cmdMD5},
	}
}

func miscCommands() []command {
	return []command{
		{"SITE", "subcommand [arguments]", loggedIn, mustArg, isPath, "", "RFC 959 section 4.1.3", "Commands of this server; see SITE HELP.", (*Conn).cmdSITE},
		{"SYST", "", anyTime, noArg, 0, "", "RFC 959 section 4.1.3", "Name the operating system in FTP's terms.", (*Conn).cmdSYST},
		{"STAT", "[path]", anyTime, mayArg, isPath | during, "", "RFC 959 section 4.1.3", "Status of the session, a transfer, or a path.", (*Conn).cmdSTAT},
		{"HELP", "[command]", anyTime, mayArg, during, "", "RFC 959 section 4.1.3", "List the commands or explain one.", (*Conn).cmdHELP},
		{"NOOP", "", anyTime, mayArg, during | keeps, "", "RFC 959 section 4.1.3", "Do nothing.", (*Conn).cmdNOOP},
		{"FEAT", "", anyTime, noArg, 0, "", "RFC 2389 section 3", "List the extensions.", (*Conn).cmdFEAT},
		{"CLNT", "name", anyTime, mustArg, 0, "CLNT", "de facto", "The client's name, for the log.", (*Conn).cmdCLNT},
		{"CSID", "Name=...; Version=...;", anyTime, mustArg, 0, "CSID", "draft-peterson-streamlined-ftp section 3", "Exchange the names of client and server.", (*Conn).cmdCSID},
	}
}

// noted is the argument of a command that is not secret as it may be logged.
// SITE PSWD holds passwords, and so do subcommands of other servers (SITE PASSWD,
// SITE CPWD): of those that are not ours only the word is kept.
func noted(cmd *command, arg string) string {
	if cmd.name != "SITE" {
		return arg
	}
	sub, rest, _ := strings.Cut(arg, " ")
	switch i := siteIndex(sub); {
	case sub == "" && rest == "":
		return arg
	case i >= 0 && siteCommands[i].name == "HELP" && rest != "" && siteIndex(rest) < 0:
		return sub + " " + siteWord(rest) + " ***"
	case i >= 0 && siteCommands[i].name != "PSWD":
		return arg
	case i >= 0 && rest == "":
		return sub
	}
	return siteWord(strings.TrimLeft(arg, " ")) + " ***"
}

// siteWord is what may be shown of a SITE subcommand that is not known: the
// letters it begins with, without what is glued to PSWD or PASS.
func siteWord(s string) string {
	if len(s) >= 4 && (strings.EqualFold(s[:4], "PSWD") || strings.EqualFold(s[:4], "PASS")) {
		return s[:4]
	}
	return s[:letters(s)]
}

// letters is how many letters s begins with, longestVerb at most.
func letters(s string) (n int) {
	for n < min(len(s), longestVerb) && (s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z') {
		n++
	}
	return n
}

// redact returns the line as it may be logged. Of what is no command only the
// letters at its beginning are kept: "PASS:secret" and a PASS behind a stray
// byte hold a password, too.
func redact(line string) string {
	verb, arg, _ := strings.Cut(line, " ")
	cmd := byName[strings.ToUpper(verb)]
	if cmd != nil && cmd.name == "SITE" && arg != "" {
		return verb + " " + noted(cmd, arg)
	}
	if cmd != nil && (cmd.flags&secret == 0 || arg == "") {
		return line
	}
	if cmd == nil {
		n := letters(line)
		if s := byName[strings.ToUpper(line[:min(n, 4)])]; s != nil && s.flags&secret != 0 {
			n = min(n, 4) // "PASSsecret"
		}
		if n == len(line) {
			return line
		}
		verb = line[:n]
	}
	return strings.TrimLeft(verb+" ***", " ")
}

// longestVerb is what is logged at most of a word that is no command.
const longestVerb = 10
