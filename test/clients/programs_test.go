//go:build clients

package clients

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func allClients() []client {
	return []client{
		{name: "curl (OpenSSL)", tools: []string{"curl curl"}, tls: "plain explicit implicit", verbs: everything, resumes: true, run: runCurl},
		{name: "libcurl (GnuTLS)", tools: []string{"/usr/bin/python3 python3"}, tls: "plain explicit implicit", verbs: everything, note: "As used by pycurl and git.", run: runPycurl},
		{name: "lftp", tools: []string{"lftp lftp"}, tls: "plain explicit implicit", verbs: everything, resumes: true, run: runLftp},
		{name: "ncftp", tools: []string{"ncftp ncftp", "ncftpget ncftp", "ncftpput ncftp", "ncftpls ncftp"}, tls: "plain", verbs: "put get list mkdir rmdir rename delete reget", note: "Its resumed uploads (ncftpput -z) send the whole file behind REST and spoil the remote one.", run: runNcftp},
		{name: "tnftp", tools: []string{"tnftp tnftp"}, tls: "plain", verbs: "put get list mkdir rmdir rename delete reget", run: runTnftp},
		{name: "inetutils ftp", tools: []string{"inetutils-ftp inetutils-ftp"}, tls: "plain", verbs: "put get list mkdir rmdir rename delete reget", not: []string{`quote"s and 'more'.txt`}, run: runInetutils},
		{name: "wget", tools: []string{"wget wget"}, tls: "plain explicit implicit", verbs: "get list reget", resumes: true, run: runWget},
		{name: "aria2", tools: []string{"aria2c aria2"}, tls: "plain", verbs: "get reget", run: runAria2},
		{name: "Python ftplib", tools: []string{"python3 python3"}, tls: "plain explicit", verbs: everything, run: runFtplib("fresh")},
		{name: "Python ftplib with session reuse", tools: []string{"python3 python3"}, tls: "explicit implicit", verbs: everything, resumes: true, note: "A subclass that hands the control connection's session to wrap_socket.", run: runFtplib("reuse")},
		{name: "Perl Net::FTP", tools: []string{"perl perl"}, tls: "plain explicit implicit", verbs: everything, run: runPerl},
		{name: "Java commons-net", tools: []string{"java default-jre-headless"}, tls: "plain explicit implicit", verbs: everything, run: runJava},
		{name: "Node basic-ftp", tools: []string{"node nodejs", "npm npm"}, tls: "plain explicit implicit", verbs: everything, resumes: true, unsent: []string{"empty"}, note: "It often ends the upload of an empty file without the TLS close, or before the handshake is done; such uploads are refused (426, 425).", run: runNode},
		{name: "rclone", tools: []string{"rclone rclone"}, tls: "plain explicit implicit", verbs: "put get list mkdir rmdir rename delete", resumes: true, run: runRclone},
	}
}

// each runs a command line for each operation and stops at the first failure.
func each(e env, ops []op, line func(op) []string) Result {
	var all Result
	for _, o := range ops {
		r := Cmd{Args: line(o), Dir: e.dir}.Run(e.t)
		all.Stdout += r.Stdout
		all.Stderr += r.Stderr
		if r.Err != nil {
			all.Err = fmt.Errorf("%v: %w", o, r.Err)
			break
		}
	}
	return all
}

// script runs one program with all operations on its standard input, one a
// line with tabs.
func script(e env, ops []op, args ...string) Result {
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&b, "%s\t%s\t%s\n", o.verb, o.a, o.b)
	}
	return Cmd{Args: args, Dir: e.dir, Stdin: b.String()}.Run(e.t)
}

func (e env) login() []string {
	return []string{e.tls, e.s.Host(e.on), e.port, e.u.Name, e.u.Password, e.s.caFile()}
}

// url is the address of a remote path; ftps is implicit TLS there.
func (e env) url(path string) string {
	scheme := "ftp"
	if e.tls == "implicit" {
		scheme = "ftps"
	}
	return scheme + "://" + e.addr + escape(path)
}

func escape(path string) string {
	var parts []string
	for p := range strings.SplitSeq(path, "/") {
		parts = append(parts, strings.ReplaceAll(url.QueryEscape(p), "+", "%20"))
	}
	return strings.Join(parts, "/")
}

func runCurl(e env, ops []op) Result {
	base := []string{"curl", "-sS", "--cacert", e.s.caFile(), "--user", e.u.Name + ":" + e.u.Password}
	if e.tls == "explicit" {
		base = append(base, "--ssl-reqd")
	}
	return each(e, ops, func(o op) []string {
		quote := func(lines ...string) []string {
			args := append(base[:len(base):len(base)], "--head", e.url("/"))
			for _, l := range lines {
				args = append(args, "--quote", l)
			}
			return args
		}
		with := func(more ...string) []string { return append(base[:len(base):len(base)], more...) }
		switch o.verb {
		case "put":
			return with("--upload-file", o.a, e.url(o.b))
		case "reput":
			return with("--continue-at", "-", "--upload-file", o.a, e.url(o.b))
		case "get":
			return with("--output", o.b, e.url(o.a))
		case "reget":
			return with("--continue-at", "-", "--output", o.b, e.url(o.a))
		case "mkdir":
			return quote("MKD " + o.a)
		case "rmdir":
			return quote("RMD " + o.a)
		case "delete":
			return quote("DELE " + o.a)
		case "rename":
			return quote("RNFR "+o.a, "RNTO "+o.b)
		}
		return with(e.url(o.a + "/"))
	})
}

func runPycurl(e env, ops []op) Result {
	// Debian's own Python, as python3-pycurl belongs to it.
	if r := (Cmd{Args: []string{"/usr/bin/python3", "-c", "import pycurl"}, Dir: e.dir}).Run(e.t); r.Err != nil {
		e.t.Fatal("pycurl is not installed; run: apt-get install -y --no-install-recommends python3-pycurl")
	}
	return script(e, ops, append([]string{"/usr/bin/python3", testdata(e.t, "ops_curl.py")}, e.login()...)...)
}

func runFtplib(reuse string) func(env, []op) Result {
	return func(e env, ops []op) Result {
		return script(e, ops, append(append([]string{"python3", "-B", testdata(e.t, "ops.py")}, e.login()...), reuse)...)
	}
}

func runPerl(e env, ops []op) Result {
	return script(e, ops, append([]string{"perl", testdata(e.t, "ops.pl")}, e.login()...)...)
}

func runJava(e env, ops []op) Result {
	const dir = "/usr/share/java/"
	for jar, debian := range map[string]string{"commons-net.jar": "libcommons-net-java", "bsh.jar": "bsh"} {
		if _, err := os.Stat(dir + jar); err != nil {
			e.t.Fatalf("%s is missing; run: apt-get install -y --no-install-recommends %s", jar, debian)
		}
	}
	args := append([]string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8",
		"-cp", dir + "bsh.jar:" + dir + "commons-net.jar", "bsh.Interpreter", testdata(e.t, "ops.bsh")}, e.login()...)
	return script(e, ops, args...)
}

// basicFTP is the release that the test installs from the npm registry once.
const basicFTP = "5.0.5"

var npm struct {
	sync.Once
	path string
	err  error
}

// nodeModule returns the installed package's directory. It stays in the user's
// cache, so that later runs need no network.
func nodeModule(t *testing.T) string {
	npm.Do(func() {
		cache, err := os.UserCacheDir()
		if err != nil {
			cache = root
		}
		prefix := filepath.Join(cache, "portreeve-tests", "basic-ftp-"+basicFTP)
		npm.path = filepath.Join(prefix, "node_modules", "basic-ftp")
		if _, err := os.Stat(filepath.Join(npm.path, "package.json")); err == nil {
			return
		}
		if npm.err = os.MkdirAll(prefix, 0o755); npm.err != nil {
			return
		}
		// npm goes by the user's own settings: a proxy, a mirror, certificates.
		cmd := exec.Command("npm", "install", "--prefix", prefix, "--no-audit", "--no-fund", "--no-save", "basic-ftp@"+basicFTP)
		cmd.Dir, cmd.SysProcAttr = prefix, ours()
		if out, err := cmd.CombinedOutput(); err != nil {
			npm.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if npm.err != nil {
		t.Fatalf("npm could not install basic-ftp@%s: %v", basicFTP, npm.err)
	}
	return npm.path
}

func runNode(e env, ops []op) Result {
	return script(e, ops, append([]string{"node", testdata(e.t, "ops.js"), nodeModule(e.t)}, e.login()...)...)
}

// quoted is a word in quotation marks for the command language of lftp and others.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// lftp runs commands of lftp on the server.
func lftp(e env, commands ...string) Result {
	lines := []string{"set net:max-retries 1", "set net:timeout 30", "set cmd:fail-exit yes", "set ssl:ca-file " + e.s.caFile()}
	scheme := "ftp"
	switch e.tls {
	case "explicit":
		lines = append(lines, "set ftp:ssl-force yes", "set ftp:ssl-protect-data yes")
	case "implicit":
		scheme = "ftps"
	}
	lines = append(lines, fmt.Sprintf("open -u %s,%s %s://%s", e.u.Name, e.u.Password, scheme, e.addr))
	lines = append(append(lines, commands...), "bye", "")
	return Cmd{Args: []string{"lftp", "-f", "/dev/stdin"}, Dir: e.dir, Stdin: strings.Join(lines, "\n")}.Run(e.t)
}

func runLftp(e env, ops []op) Result {
	var lines []string
	for _, o := range ops {
		a, b := quoted(o.a), quoted(o.b)
		switch o.verb {
		case "put":
			lines = append(lines, "put "+a+" -o "+b)
		case "reput":
			lines = append(lines, "put -c "+a+" -o "+b)
		case "get":
			lines = append(lines, "get "+a+" -o "+b)
		case "reget":
			lines = append(lines, "get -c "+a+" -o "+b)
		case "list":
			lines = append(lines, "ls "+a, "cls -1 "+a, "nlist "+a)
		case "mkdir", "rmdir":
			lines = append(lines, o.verb+" "+a)
		case "delete":
			lines = append(lines, "rm "+a)
		case "rename":
			lines = append(lines, "mv "+a+" "+b)
		}
	}
	return lftp(e, lines...)
}

func runNcftp(e env, ops []op) Result {
	login := []string{"-u", e.u.Name, "-p", e.u.Password, "-P", e.port}
	host := e.s.Host(e.on)
	return each(e, ops, func(o op) []string {
		tool := func(name string, more ...string) []string {
			return append(append([]string{name}, login...), more...)
		}
		shell := func(line string) []string {
			in := fmt.Sprintf("open -u %s -p %s -P %s %s\n%s\nquit\n", e.u.Name, e.u.Password, e.port, host, line)
			return []string{"sh", "-c", `printf %s "$1" | ncftp`, "sh", in}
		}
		switch o.verb {
		case "put":
			return tool("ncftpput", "-C", host, o.a, o.b)
		case "reput":
			return tool("ncftpput", "-z", "-C", host, o.a, o.b)
		case "get":
			return tool("ncftpget", "-C", host, o.a, o.b)
		case "reget":
			return tool("ncftpget", "-z", "-C", host, o.a, o.b)
		case "list":
			return tool("ncftpls", "-1", "ftp://"+host+o.a+"/")
		case "delete":
			return shell("rm " + quoted(o.a))
		case "rename":
			return shell("rename " + quoted(o.a) + " " + quoted(o.b))
		}
		return shell(o.verb + " " + quoted(o.a))
	})
}

// escaped is a word with a backslash before each special character.
func escaped(s string) string {
	return strings.NewReplacer(` `, `\ `, `\`, `\\`, `"`, `\"`, `'`, `\'`, `;`, `\;`, `&`, `\&`, `#`, `\#`).Replace(s)
}

// bsdLines is the command language of the ftp programs from BSD.
func bsdLines(e env, ops []op, word func(string) string, list ...string) string {
	lines := []string{"user " + e.u.Name + " " + e.u.Password, "binary"}
	for _, o := range ops {
		switch o.verb {
		case "list":
			for _, l := range list {
				lines = append(lines, l+" "+word(o.a))
			}
		case "mkdir", "rmdir", "delete":
			lines = append(lines, o.verb+" "+word(o.a))
		default:
			lines = append(lines, o.verb+" "+word(o.a)+" "+word(o.b))
		}
	}
	return strings.Join(append(lines, "quit", ""), "\n")
}

func runTnftp(e env, ops []op) Result {
	return Cmd{Args: []string{"tnftp", "-n", "-i", e.s.Host(e.on), e.port}, Dir: e.dir, Stdin: bsdLines(e, ops, escaped, "ls", "nlist", "mlsd")}.Run(e.t)
}

func runInetutils(e env, ops []op) Result {
	return Cmd{Args: []string{"inetutils-ftp", "-n", "-i", "-v", e.s.Host(e.on), e.port}, Dir: e.dir, Stdin: bsdLines(e, ops, quoted, "ls", "nlist")}.Run(e.t)
}

func runWget(e env, ops []op) Result {
	base := []string{"wget", "-nv", "--tries=1", "--timeout=30", "--ca-certificate=" + e.s.caFile(), "--user=" + e.u.Name, "--password=" + e.u.Password}
	scheme := "ftp"
	switch e.tls {
	case "explicit":
		scheme = "ftps"
	case "implicit":
		scheme = "ftps"
		base = append(base, "--ftps-implicit")
	}
	return each(e, ops, func(o op) []string {
		args := base[:len(base):len(base)]
		from := scheme + "://" + e.addr + escape(o.a)
		switch o.verb {
		case "list":
			return append(args, "-O", "-", from+"/")
		case "reget":
			// -c goes by the name of the remote file.
			return append([]string{"sh", "-c", `mkdir again && mv "$1" again/big.bin && cd again && shift && "$@" && mv big.bin ../out/half.bin`, "sh", o.b}, append(args, "-c", from)...)
		}
		return append(args, "-O", o.b, from)
	})
}

func runAria2(e env, ops []op) Result {
	return each(e, ops, func(o op) []string {
		args := []string{"aria2c", "--no-conf", "--quiet", "--max-tries=1", "--timeout=30", "--enable-color=false", "--summary-interval=0", "--disable-ipv6",
			"--ftp-user=" + e.u.Name, "--ftp-passwd=" + e.u.Password, "--allow-overwrite=true", "--auto-file-renaming=false", "--dir=.", "--out=" + o.b}
		if o.verb == "reget" {
			args = append(args, "--continue=true")
		}
		return append(args, e.url(o.a))
	})
}

// rclone runs one command of rclone with the backend's settings.
func rclone(e env, args ...string) Result {
	return Cmd{Args: append(rcloneBase(e), args...), Dir: e.dir}.Run(e.t)
}

func rcloneBase(e env) []string {
	obscured := strings.TrimSpace(Cmd{Args: []string{"rclone", "obscure", e.u.Password}, Dir: e.dir}.Must(e.t).Stdout)
	// The ftp backend of rclone takes its trust from the system's certificates.
	base := []string{"env", "SSL_CERT_FILE=" + e.s.caFile(), "rclone", "--config", "/dev/null", "--retries", "1", "--low-level-retries", "1",
		"--ftp-host", e.s.Host(e.on), "--ftp-port", e.port, "--ftp-user", e.u.Name, "--ftp-pass", obscured}
	switch e.tls {
	case "explicit":
		base = append(base, "--ftp-explicit-tls")
	case "implicit":
		base = append(base, "--ftp-tls")
	}
	return base
}

func runRclone(e env, ops []op) Result {
	base := rcloneBase(e)
	return each(e, ops, func(o op) []string {
		args := base[:len(base):len(base)]
		switch o.verb {
		case "put":
			return append(args, "copyto", o.a, ":ftp:"+o.b)
		case "get":
			return append(args, "copyto", ":ftp:"+o.a, o.b)
		case "list":
			return append(args, "lsf", ":ftp:"+o.a)
		case "rename":
			return append(args, "moveto", ":ftp:"+o.a, ":ftp:"+o.b)
		case "delete":
			return append(args, "deletefile", ":ftp:"+o.a)
		}
		return append(args, o.verb, ":ftp:"+o.a)
	})
}
