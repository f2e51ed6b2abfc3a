//go:build lab

package netlab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// peers is where test/tools/peers has unpacked other makers' servers.
func peers() string { return os.Getenv("PORTREEVE_PEERS") }

// startPeer runs another server on s, with explicit TLS, an account "lab" or
// anonymous log-in, and the passive range of the lab. extra are lines of its
// configuration, or options for Pure-FTPd.
func (l *lab) startPeer(kind, extra string) {
	l.t.Helper()
	if peers() == "" {
		l.t.Fatal("PORTREEVE_PEERS does not say where the other servers are; \"make lab\" does it all")
	}
	home := filepath.Join(l.dir, "home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		l.t.Fatal(err)
	}
	for d := l.dir; d != "/tmp" && d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // the servers give up root before they look
	}
	if err := os.WriteFile(filepath.Join(home, "hello.txt"), []byte("hello\n"), 0o644); err != nil {
		l.t.Fatal(err)
	}
	l.must("s", "", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab", "-keyout", "key.pem", "-out", "cert.pem")
	hash := strings.TrimSpace(l.must("s", password+"\n", "openssl", "passwd", "-6", "-stdin"))
	argv := map[string]func(hash, home, extra string) []string{"vsftpd": l.vsftpd, "proftpd": l.proftpd, "pure-ftpd": l.pureFTPd}[kind](hash, home, extra)
	log, err := os.Create(filepath.Join(l.dir, "server.log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	l.server = exec.Command("ip", append([]string{"netns", "exec", l.ns("s")}, argv...)...)
	l.server.Dir, l.server.Stdout, l.server.Stderr = l.dir, log, log
	if err := l.server.Start(); err != nil {
		l.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err := l.run("s", "", "curl", "-s", "--max-time", "2", "telnet://127.0.0.1:21"); err == nil || strings.Contains(l.listening(), ":21 ") {
			return
		}
		if time.Now().After(end) {
			b, _ := os.ReadFile(log.Name())
			l.t.Fatalf("%s did not start:\n%s", kind, b)
		}
	}
}

func (l *lab) listening() string {
	out, _ := l.run("s", "", "ss", "-Hltn")
	return out
}

func (l *lab) write(name, text string) string {
	l.t.Helper()
	p := filepath.Join(l.dir, name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return p
}

// vsftpd serves anonymous users: accounts would need PAM and the system's.
func (l *lab) vsftpd(_, home, extra string) []string {
	os.Mkdir(filepath.Join(l.dir, "empty"), 0o555)
	os.Chmod(home, 0o555) // it refuses a root that may be written
	conf := l.write("vsftpd.conf", fmt.Sprintf("listen=YES\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\nno_anon_password=YES\nftp_username=daemon\nanon_root=%s\n"+
		"secure_chroot_dir=%s\npasv_min_port=20000\npasv_max_port=20019\nconnect_timeout=3\naccept_timeout=3\nconnect_from_port_20=YES\n"+
		"ssl_enable=YES\nallow_anon_ssl=YES\nrequire_ssl_reuse=YES\nssl_ciphers=HIGH\nrsa_cert_file=%s\nrsa_private_key_file=%s\nseccomp_sandbox=NO\nisolate_network=NO\nisolate=NO\n%s",
		home, filepath.Join(l.dir, "empty"), filepath.Join(l.dir, "cert.pem"), filepath.Join(l.dir, "key.pem"), extra))
	return []string{filepath.Join(peers(), "vsftpd/usr/sbin/vsftpd"), conf}
}

func (l *lab) proftpd(hash, home, extra string) []string {
	passwd := l.write("passwd", fmt.Sprintf("lab:%s:65534:65534::%s:/bin/sh\n", hash, home))
	own := serverPublic
	if l.top.serverNAT {
		own = serverPrivate
	}
	group := l.write("group", "nogroup:x:65534:\n")
	conf := l.write("proftpd.conf", fmt.Sprintf("ModulePath %s\nLoadModule mod_tls.c\nServerName lab\nServerType standalone\nDefaultAddress %s\nPort 21\nUseIPv6 off\nUseReverseDNS off\nDelayEngine off\nWtmpLog off\n"+
		"TransferLog none\nSystemLog %s/proftpd.log\nPidFile %s/pid\nScoreboardFile %s/scoreboard\nScoreboardMutex %s/scoreboard.lck\nUser nobody\nGroup nogroup\nAuthOrder mod_auth_file.c\n"+
		"AuthUserFile %s\nAuthGroupFile %s\nRequireValidShell off\nUseFtpUsers off\nPassivePorts 20000 20019\nTimeoutLinger 3\n"+
		"TLSEngine on\nTLSRSACertificateFile %s/cert.pem\nTLSRSACertificateKeyFile %s/key.pem\nTLSRequired off\nTLSRenegotiate none\nTLSLog none\n%s",
		filepath.Join(peers(), "proftpd/usr/lib/proftpd"), own, l.dir, l.dir, l.dir, l.dir, passwd, group, l.dir, l.dir, extra))
	return []string{filepath.Join(peers(), "proftpd/usr/sbin/proftpd"), "-n", "-c", conf}
}

func (l *lab) pureFTPd(hash, home, extra string) []string {
	passwd := l.write("passwd", fmt.Sprintf("lab:%s:65534:65534::%s/./::::::::::::\n", hash, home))
	l.must("s", "", filepath.Join(peers(), "pure-ftpd/usr/bin/pure-pw"), "mkdb", filepath.Join(l.dir, "pdb"), "-f", passwd)
	key, _ := os.ReadFile(filepath.Join(l.dir, "key.pem"))
	cert, _ := os.ReadFile(filepath.Join(l.dir, "cert.pem"))
	l.write("pure.pem", string(key)+string(cert))
	argv := []string{filepath.Join(peers(), "pure-ftpd/usr/sbin/pure-ftpd"), "-S", "21", "-l", "puredb:" + filepath.Join(l.dir, "pdb"), "-E", "-A", "-H", "-4",
		"-p", "20000:20019", "-g", filepath.Join(l.dir, "pid"), "-f", "none", "-Y", "1", "-2", filepath.Join(l.dir, "pure.pem")}
	return append(argv, strings.Fields(extra)...)
}

// peerTopologies are planted faults with other makers' servers: three each.
func peerTopologies() []topology {
	notForwarded := map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport 21 dnat to 192.168.88.10") + dropRest}
	related := map[string]string{"s": helper + "table inet filter {\n chain input {\n type filter hook input priority filter\n ct state established,related accept\n iif lo accept\n meta l4proto icmp accept\n tcp dport 21 accept\n drop\n }\n}\n"}
	strip := map[string]string{"inet": forward("tcp dport 21 @ih,0,32 0x41555448 @ih,0,32 set 0x58585858")}
	return []topology{
		{name: "vsftpd", peer: "vsftpd", want: ".... .... --", curl: true},
		{name: "vsftpd-private-address", peer: "vsftpd", config: "pasv_address=192.168.1.5\n", want: "T... T... --", code: "PASV_ADDR_PRIVATE", box: "server"},
		{name: "vsftpd-range-busy", peer: "vsftpd", config: "pasv_min_port=20000\npasv_max_port=20000\n", setup: []string{"s: (python3 -m http.server 20000 >/dev/null 2>&1 &) ; sleep 1"}, want: "?", code: "RANGE_BUSY", box: "server"},
		{name: "vsftpd-firewall", peer: "vsftpd", rules: map[string]string{"s": input("drop")}, want: "TT.. TT.. --", could: "SERVER_FW_RANGE", box: "server"},
		{name: "proftpd", peer: "proftpd", want: ".... .... --", curl: true},
		{name: "proftpd-stale-address", peer: "proftpd", config: "MasqueradeAddress 7.7.7.7\n", want: "T... T... --", could: "PASV_ADDR_STALE", box: "server"},
		{name: "proftpd-range-not-forwarded", peer: "proftpd", serverNAT: true, config: "MasqueradeAddress " + routerOuter + "\n", rules: notForwarded, want: "TT.. TT.. --", could: "RANGE_NOT_FORWARDED", box: "server-router"},
		{name: "proftpd-helper-only", peer: "proftpd", rules: related, want: ".... TT.. --", code: "SERVER_ALG_BLIND_TLS", box: "server", curl: true},
		{name: "pure-ftpd", peer: "pure-ftpd", want: ".... .... --", curl: true},
		{name: "pure-ftpd-private-address", peer: "pure-ftpd", config: "-P 192.168.1.5", want: "T... T... --", code: "PASV_ADDR_PRIVATE", box: "server"},
		{name: "pure-ftpd-client-firewall", peer: "pure-ftpd", rules: map[string]string{"cr": forward("iifname lan tcp dport 1024-65535 ct state new drop")}, want: "TT.. TT.. --", code: "CLIENT_FW_OUT_HIGH", box: "client-router"},
		{name: "pure-ftpd-auth-stripped", peer: "pure-ftpd", rules: strip, want: ".... AAAA --", code: "MBOX_AUTH", box: "middlebox", curl: true},
	}
}
