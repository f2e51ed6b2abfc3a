package ftp

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The transcripts in testdata/dialog run against this package's server, or
// against any other with -target. Each is a txtar archive:
//
//	# RFC 959 section 5.4: what it shows      (the first line cites the source)
//	-- config --         key=value lines, see dialogConfig
//	-- files/NAME --     files that exist at the start; escapes as in commands
//	-- dialog --         the conversation, one step a line:
//
//	C: LINE              send a command; \r \n \0 \xff and \\ are understood
//	C+ BYTES             send bytes as they are
//	S: CODE [TEXT|~RE]   expect a reply; CODE may be an expression ("425|426");
//	                     the last line has this text, or matches the expression
//	S? CODE              the same, but the reply may be missing
//	S~ RE, S! RE         some (no) line of the last reply matches
//	D> BYTES             send on the data connection
//	D< BYTES, D<~ RE     read the data connection to its end; it brought exactly
//	                     this, or something that matches. Several D< are joined
//	D!                   end the data connection properly
//	DX                   cut it
//	DERR                 the data connection does not come about or breaks
//	NODATA               do not open the next data connection
//	FRESH                the next ones do not resume the control connection's TLS
//	PLAINDATA            ... do not use TLS in spite of PROT P
//	DFIN                 end the data connection without a TLS close_notify
//	URGENT BYTES         send on the control connection, the last byte urgent
//	TLS, CLEAR           begin, end TLS on the control connection
//	CLOSED               the server closes the control connection
//	FILE NAME BYTES      this server's tree now has this file (own server only)
//	GONE NAME            ... does not have it
//
// A command with $PORT or $EPRT opens a port and names it. The data connection
// is made when a command that needs one follows PASV, EPSV, PORT or EPRT, and
// is protected after PROT P. Unless the config says login=no the log-in has
// happened, and TYPE I with it.
var (
	targetAddr = flag.String("target", "", "host:port of another FTP server to run the transcripts against")
	targetUser = flag.String("user", "ann", "user at -target")
	targetPass = flag.String("pass", "secret", "password at -target")
)

// dialogConfig are the keys of a config section.
var dialogConfig = map[string]string{
	"login":       "no: the dialog begins after the greeting; another word: this user logs in",
	"type":        "no: TYPE I is not sent after the log-in",
	"zeros":       "NAME:SIZE: a big file",
	"dir":         "NAME: an empty directory",
	"tls":         "off, offered, required, implicit",
	"data":        "required: transfers need PROT P",
	"bind":        "require, off: TLS session binding",
	"clientcert":  "NAME: the client shows a certificate of this name",
	"sni":         "NAME: the server name of the client's handshakes",
	"ip":          "6: over IPv6",
	"anonymous":   "yes",
	"host":        "NAME: a host that HOST accepts",
	"quota":       "BYTES",
	"disk":        "BYTES",
	"plain":       "yes: the backend has no abilities beyond the required ones",
	"refuse":      "TEXT: the connection is refused",
	"active":      "off",
	"passive":     "off, or ADDRESS to announce",
	"ccc":         "yes: CCC is allowed",
	"idle":        "DURATION",
	"logintime":   "DURATION",
	"datatime":    "DURATION",
	"stall":       "DURATION",
	"maxline":     "BYTES",
	"maxfailures": "N",
	"only":        "TEXT: why other servers need not agree",
}

// foreign are the keys that another server can satisfy too.
var foreignKeys = []string{"login", "type", "zeros", "dir"}

func TestDialogs(t *testing.T) {
	files, err := filepath.Glob("testdata/dialog/*.txtar")
	if err != nil || len(files) < 400 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	ran := 0
	for _, f := range files {
		d := parseDialog(t, f)
		if *targetAddr != "" && !d.foreign() {
			continue
		}
		ran++
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			if *targetAddr == "" {
				t.Parallel()
			}
			d.run(t)
		})
	}
	t.Logf("%d of %d transcripts", ran, len(files))
}

type dialog struct {
	file   string
	cites  string
	config map[string][]string
	files  []archiveFile
	steps  []dialogStep
}

type dialogStep struct {
	line      int
	verb, arg string
}

var citation = regexp.MustCompile(`^# (RFC \d+ section [A-Z0-9.]*[A-Z0-9]|draft-[a-z0-9-]+|de facto)(, RFC \d+ section [0-9.]*[0-9])*: .+`)

func parseDialog(t *testing.T, file string) *dialog {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	comment, files := parseArchive(string(text))
	d := &dialog{file: file, config: map[string][]string{}}
	head, _, _ := strings.Cut(comment, "\n")
	if !citation.MatchString(head) {
		t.Errorf("%s: the first line %q does not cite its source", file, head)
	}
	d.cites = strings.TrimPrefix(head, "# ")
	line := strings.Count(comment, "\n")
	for _, f := range files {
		line++
		switch body := f.Data; {
		case f.Name == "config":
			for l := range strings.Lines(body) {
				k, v, ok := strings.Cut(strings.TrimSpace(l), "=")
				if !ok || dialogConfig[k] == "" {
					t.Fatalf("%s: unknown config line %q", file, l)
				}
				d.config[k] = append(d.config[k], v)
			}
		case strings.HasPrefix(f.Name, "files/"):
			name, err := unescape(strings.TrimPrefix(f.Name, "files/"))
			if err != nil {
				t.Fatal(err)
			}
			f.Name = "/" + name
			d.files = append(d.files, f)
		case f.Name == "dialog":
			for i, l := range strings.Split(body, "\n") {
				if l == "" || l[0] == '#' {
					continue
				}
				verb, arg, _ := strings.Cut(l, " ")
				d.steps = append(d.steps, dialogStep{line + i + 1, verb, arg})
			}
		default:
			t.Fatalf("%s: unknown section %q", file, f.Name)
		}
		line += strings.Count(f.Data, "\n")
	}
	if len(d.steps) == 0 {
		t.Fatalf("%s: no dialog", file)
	}
	return d
}

type archiveFile struct{ Name, Data string }

// parseArchive reads the txtar format: a comment, then files that each begin
// with a line "-- NAME --".
func parseArchive(text string) (comment string, files []archiveFile) {
	for l := range strings.Lines(text) {
		name, isMark := strings.CutPrefix(strings.TrimSuffix(l, "\n"), "-- ")
		if name, isMark = strings.CutSuffix(name, " --"); isMark && strings.HasPrefix(l, "-- ") {
			files = append(files, archiveFile{Name: name})
			continue
		}
		if n := len(files); n > 0 {
			files[n-1].Data += l
		} else {
			comment += l
		}
	}
	return comment, files
}

func (d *dialog) get(key string) string {
	if v := d.config[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (d *dialog) foreign() bool {
	for k := range d.config {
		if !slices.Contains(foreignKeys, k) {
			return false
		}
	}
	return d.get("login") == "" || d.get("login") == "no"
}
