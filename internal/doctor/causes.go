package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Cause is what a code stands for. docs/reference/errors.md is made from these.
type Cause struct {
	Title string
	Box   string // where it is cured
	Fix   string // {ports}, {range}, {server} are replaced
}

// causes is the vocabulary of the doctor, the plan, the firewall's report and
// the recorder. Codes are stable: they are never given another meaning.
var causes = map[string]Cause{
	// the server's machine
	"CONFIG":          {"the configuration has mistakes", "server", "portreeve check names each with file and line"},
	"NOT_RUNNING":     {"the server does not run", "server", "portreeve serve; or systemctl start portreeve"},
	"NO_LISTENER":     {"no listener is configured", "server", "add a [[listen]] entry, for example protocol = \"ftp\" with address = \":21\""},
	"PORT_IN_USE":     {"another program has the port", "server", "stop that program (ss -ltnp names it) or choose another port"},
	"PORT_PERMISSION": {"the port needs a permission the server does not have", "server", "setcap cap_net_bind_service=+ep on the program file, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a port from 1024 on"},
	"PORT_CLASH":      {"two listeners want one port", "server", "give one of them another port or address"},
	"PORT_UNKNOWN":    {"the listener has no fixed port", "server", "give the listener a fixed port, so that firewalls can be prepared for it"},
	"BIND_ADDR":       {"the server does not listen where clients come", "server", "listen on \":{port}\" for all addresses of both families"},
	"SERVER_ROUTE":    {"the server has no way back to the clients", "server", "ip route; add the default route: ip route add default via ROUTER"},
	"ASYM_ROUTE":      {"replies leave by another uplink than requests came in", "server", "ip rule add from ADDRESS lookup 2; ip route add default via ROUTER table 2"},
	"SERVER_FW_RANGE": {"the server's own firewall stops inbound connections", "server", "portreeve ports open --for nftables --apply (or --for iptables, ufw, firewalld); the ports are TCP {ports}"},
	"SERVER_FW_OUT":   {"the server's own firewall stops active data connections", "server", "let TCP from source ports 20 and 989 out: nft insert rule inet filter output tcp sport '{ 20, 989 }' accept; portreeve ports open --for nftables prints it"},
	"FW_UNCLEAR":      {"rules of the server's own firewall could not be understood", "server", "read them with nft list ruleset; TCP {ports} must be accepted"},
	"FW_EXTRA":        {"the firewall has more open than the plan needs", "server", "remove what nobody uses"},
	"FW_UNREAD":       {"the server's own firewall could not be read", "server", "run the doctor as root, with nft installed; portreeve ports open --for nftables prints the rules that are needed"},
	"ACTIVE_SRC_PORT": {"active data connections do not start from port 20 or 989", "server", "setcap cap_net_bind_service=+ep on the program file; without it only firewalls that insist on the source port refuse them"},
	"RANGE_BUSY":      {"other programs use ports of the passive range, or it is too small", "server", "portreeve ports plan suggests a free range; enlarge ftp.passive.ports"},
	"RANGE_EPHEMERAL": {"the passive range overlaps the ports of outgoing connections", "server", "portreeve ports plan prints the sysctl line that takes them out"},
	"RANGE_SMALL":     {"the passive range is too small for the sessions", "server", "enlarge ftp.passive.ports, and the firewall rules with it"},
	"RANGE_INVALID":   {"the passive range is not usable", "server", "portreeve ports plan suggests one"},
	"RANGE_LISTENER":  {"a listener lies inside the passive range", "server", "move one of them"},
	"RANGE_SHARED":    {"two passive ranges overlap", "server", "make them equal or separate"},
	"RANGE_MEDDLED":   {"the range holds ports that routers treat specially", "server", "nothing to do unless all are: those ports are never used"},
	"RANGE_PUBLISHED": {"too many published container ports", "server", "use a range of at most 200 ports, or the host's network"},
	"RANGE_UNREACHED": {"no passive port was ever reached", "unknown", "portreeve doctor here checks this machine; portreeve doctor ftp://{server} on a client tells which box it is"},
	"FILE_LIMIT":      {"too few open files for the sessions allowed", "server", "set LimitNOFILE in the unit or ulimit -n, or lower limits.max_connections"},
	"CERT_EXPIRED":    {"the certificate is not valid now", "server", "renew it: portreeve cert show names the file; check the clock"},
	"CERT_UNTRUSTED":  {"clients cannot verify the certificate", "server", "use one of a public authority (tls.cert and tls.key, with the intermediates), or give clients the server's own certificate"},
	"CERT_NAME":       {"the certificate is for another name", "server", "use the name clients connect to in the certificate"},
	"CERT_PROBLEM":    {"the certificate needs a look", "server", "portreeve cert show"},
	"CRYPTO_POLICY":   {"the set of algorithms is not the newest safe one", "server", "remove crypto_policy from the configuration, or name the newest; portreeve check --crypto lists them"},

	// announced addresses
	"PASV_ADDR_PRIVATE":        {"PASV announces a private address to clients outside", "server", "set ftp.passive.address to the public address or name; EPSV clients are not concerned"},
	"PASV_ADDR_ZERO":           {"PASV announces 0.0.0.0", "server", "set ftp.passive.address to the address clients connect to, or leave it empty"},
	"PASV_ADDR_STALE":          {"PASV announces an address that is not the server's", "server", "correct ftp.passive.address; a host name there follows a changing address"},
	"PASV_ADDR_NOT_CONTROL":    {"PASV announces another address of the server than the one the client reached", "server", "leave ftp.passive.address empty, or add an [[ftp.passive.rule]] for these clients: each client must hear the address it reached"},
	"PASV_ADDR_PUBLIC_FOR_LAN": {"PASV announces the public address to clients inside", "server", "add an [[ftp.passive.rule]] with the inside networks and the inside address"},
	"PASV_NAME":                {"the announced host name does not resolve", "server", "correct the name in ftp.passive.address, or the resolver of this machine"},
	"PASV_ADDR_CONFLICT":       {"two sources disagree about the public address", "server", "set ftp.passive.address; portreeve explain pasv --from ADDRESS shows the sources"},
	"PASV_ADDR_FAMILY":         {"PASV cannot carry an IPv6 address", "server", "announce an IPv4 address, or leave it to EPSV"},
	"CONTAINER_ADDRESS":        {"clients outside the container hear its inner address", "server", "set ftp.passive.address to the host's address; portreeve ports open --for compose prints the lines"},

	// routers and what lies between
	"CONTROL_NOT_FORWARDED": {"the control port is not forwarded", "server-router", "forward TCP {port} to the server, and the passive range: portreeve ports open --for mikrotik|openwrt, or by hand on the router's page"},
	"CONTROL_BLOCKED_21":    {"port 21 is blocked on the way", "isp", "offer another port: 990 (FTPS) or 2121"},
	"CONTROL_BLOCKED":       {"the control port cannot be reached", "unknown", "run portreeve doctor on the server; try from another network to see whether only this place is concerned"},
	"RANGE_NOT_FORWARDED":   {"the router does not forward the passive range", "server-router", "forward TCP {range} to the server, the same numbers inside and outside"},
	"RANGE_PARTIAL":         {"only part of the passive range gets through", "server-router", "the forwarded range must be the server's: TCP {range}"},
	"RANGE_SHIFTED":         {"the router forwards the passive range under other numbers", "server-router", "forward TCP {range} to the same port numbers; or, with a Portreeve server, say which they are outside: ftp.passive.external_ports"},
	"FORWARD_WRONG_HOST":    {"the router forwards the passive range to another machine", "server-router", "correct the inside address of the forward for TCP {range}; give the server a fixed address"},
	"DOUBLE_NAT":            {"two routers in a row, and the outer one forwards nothing", "outer-router", "forward the same ports on the outer router to the inner one's outer address, or set the outer one to bridge mode"},
	"CGNAT":                 {"the provider's NAT lets no connection in", "isp", "ask the provider for a public IPv4 address, use IPv6, or a tunnel"},
	"HAIRPIN":               {"inside clients cannot use the public address", "server-router", "switch NAT loopback (hairpin) on; or let the name resolve to the inside address there"},
	"SERVER_ALG_BLIND_TLS":  {"an FTP helper opens the ports, and TLS hides the commands from it", "server-router", "open TCP {range} with a rule of its own on every firewall of the server's side, and forward it: portreeve ports open --for TARGET"},
	"CLIENT_ALG_BLIND_TLS":  {"the client's router corrects PORT, which TLS hides from it", "client-router", "use passive mode with TLS"},
	"ALG_BLIND_TLS":         {"an FTP helper opens the ports, and TLS hides the commands from it", "unknown", "open TCP {range} with a rule of its own on the firewalls of both sides"},
	"MBOX_AUTH":             {"a box on the way refuses TLS on the control connection", "middlebox", "switch FTP inspection off there; or use implicit FTPS (port 990), which it cannot read"},
	"MBOX_TLS":              {"a box on the way opens the TLS of the control connection", "middlebox", "take the server out of TLS inspection there; until then use implicit FTPS (port 990) or SFTP, and check the certificate"},
	"MBOX_EXT":              {"a box on the way swallows EPSV and EPRT", "middlebox", "switch FTP inspection off there, use TLS, or set the client to PASV"},
	"MBOX_PASV_REWRITE":     {"a box on the way rewrites the reply to PASV", "middlebox", "switch FTP inspection (ALG) off there; or use TLS"},
	"UPSTREAM_FW_RANGE":     {"a filter in front of the server stops the passive range", "server-router", "open TCP {range} there for everybody"},
	"UPSTREAM_FW_SOURCE":    {"a filter in front of the server admits only some networks to the passive range", "server-router", "open TCP {range} there for the clients' networks too"},
	"UPSTREAM_FW_OUT":       {"a filter in front of the server stops active data connections", "server-router", "let TCP from source ports 20 and 989 out there; or use passive mode"},
	"MTU_BLACKHOLE":         {"full-size packets vanish on the way", "server-router", "nft add rule inet mangle forward tcp flags syn tcp option maxseg size set rt mtu on the router; let ICMP \"fragmentation needed\" through; sysctl net.ipv4.tcp_mtu_probing=1 on the server"},
	"SYN_LIMIT":             {"a firewall limits the rate of new connections", "server-router", "raise or lift the limit for TCP {range}: each file needs a connection"},
	"CONN_LIMIT":            {"a firewall limits the connections of one client", "server-router", "raise the limit: a client needs one control and one data connection for each transfer"},
	"CONTROL_IDLE":          {"quiet control connections are forgotten on the way", "client-router", "let the client send NOOP or TCP keep-alive more often, or raise the timer; the server's keep-alive must be shorter than it"},
	"IPV6_FW_RANGE":         {"the passive range is closed for IPv6", "server-router", "open TCP {range} for IPv6 too, on the router and on the server: nft add rule inet fw forward ip6 daddr SERVER tcp dport { {ports} } accept"},
	"IPV6_FW_CONTROL":       {"the control port is closed for IPv6", "server-router", "open TCP {ports} for IPv6 too, or take the AAAA record away"},
	"CLIENT_NO_V4":          {"the client has no IPv4", "client", "connect over IPv6"},
	"NAT64":                 {"the client reaches IPv4 only through NAT64", "client", "use EPSV, which carries no address; PASV names an IPv4 address that cannot be reached from there"},
	"DOCKER_PUBLISH":        {"the container's passive ports are not published", "server", "publish every port of the range under its own number: portreeve ports open --for compose"},
	"DOCKER_HIDES_CLIENT":   {"the container host hides the client's address", "server", "userland-proxy: false, or the host's network; active mode cannot work otherwise"},
	"LB_HIDES_CLIENT":       {"a balancer hides the client's address", "balancer", "let it send PROXY headers and name it in the listener's proxy networks; active mode cannot work otherwise"},
	"LB_SOURCE_CHECK":       {"data connections come from a balancer's address", "balancer", "route the passive range to the node past the balancer, or let it keep the client's address"},
	"LB_WRONG_NODE":         {"data connections end at another machine than the control connection", "balancer", "give each node a part of the range and route it there, or keep clients on one node for all ports"},
	"SOURCE_MISMATCH":       {"data connections come from another address than their control connection", "client-router", "use one outgoing address for both; or TLS with session reuse; on the server's side a balancer must pass the address on"},
	"PROXY_MISSING":         {"the server waits for a PROXY header", "server", "take the network out of the listener's proxy setting, or let the balancer send the header"},
	"PROXY_UNEXPECTED":      {"a balancer sends a PROXY header the server does not expect", "server", "name the balancer in the listener's proxy setting"},

	// the client's side
	"CLIENT_FW_OUT_HIGH": {"the client's side lets no connection out to the passive ports", "client-router", "allow TCP {range} to {server} outbound; portreeve ports plan --client prints a page for the network team"},
	"CLIENT_FW_OUT_21":   {"the client's side lets no connection out to the control port", "client-router", "allow TCP {port} to {server} outbound, or use a port that is open there"},
	"CLIENT_FW_IN":       {"the client's firewall stops active data connections", "client", "use passive mode; or admit TCP from {server}, source ports 20 and 989"},
	"CLIENT_NAT_ACTIVE":  {"active mode cannot work from behind the client's router", "client", "use passive mode (EPSV or PASV)"},
	"CLIENT_BANNED":      {"the server refuses this client's address", "server", "wait for the ban to end; limits.never_ban exempts a network"},

	// what cannot be told apart from one place
	"PASSIVE_BLOCKED": {"passive data connections do not get through", "unknown", "compare: from the server, portreeve doctor; from a client in another network, portreeve doctor ftp://{server}"},
	"ACTIVE_BLOCKED":  {"active data connections do not come through", "unknown", "use passive mode; portreeve doctor on the server checks its own firewall"},

	// the dialogue
	"NAME_UNKNOWN":        {"the name does not resolve", "client", "check the name; dig NAME"},
	"NOT_FTP":             {"something that is not FTP answers", "server", "check host and port"},
	"NOT_SSH":             {"something that is not SSH answers", "server", "check host and port; SFTP is usually on port 22"},
	"WRONG_DOOR":          {"the port speaks another variant", "client", "use the port and mode that the answer names"},
	"BUSY":                {"the server admits no further connection", "server", "try later; limits.max_connections and limits.per_address"},
	"LOGIN":               {"the log-in is refused", "client", "check user and password; the rest cannot be tested without"},
	"TLS_OFF":             {"the server offers no TLS", "server", "give it a certificate"},
	"TLS_CONTROL":         {"TLS on the control connection fails", "server", "see the message; compare with port 990"},
	"TLS_DATA":            {"TLS on data connections fails", "server", "see the message"},
	"TLS_REUSE_REQUIRED":  {"the server wants data connections to resume the TLS session", "client", "switch TLS session reuse on in the client, or use one that can"},
	"TLS_NO_RESUME":       {"the server does not resume TLS sessions on data connections", "server", "keep session tickets or the session cache on for both kinds of connection"},
	"ACTIVE_OFF":          {"the server does not offer active mode", "server", "use passive mode"},
	"PASSIVE_OFF":         {"the server does not offer passive mode", "server", "switch it on: clients behind routers need it"},
	"EPSV_OFF":            {"the server does not know EPSV", "server", "PASV works; IPv6 clients need EPSV"},
	"LIST_FAILED":         {"the listing fails although the data connection comes about", "server", "see the server's reply"},
	"SSH_HANDSHAKE":       {"the SSH handshake fails", "server", "see the message; the server's log has its side"},
	"SSH_OLD":             {"the server speaks SSH version 1", "server", "replace it, or switch version 1 off (OpenSSH: Protocol 2)"},
	"SSH_WEAK":            {"the server offers SSH algorithms that are broken or too weak", "server", "take them out; Portreeve offers none of them (sftp.compatible = false)"},
	"SSH_WEAK_KEY":        {"a host key is too weak", "server", "make an ed25519 key and take the weak one out: ssh-keygen -t ed25519; clients must learn it"},
	"SSH_HOSTKEY_CHANGED": {"the server shows another host key than is known", "unknown", "ask the server's administrator for the fingerprint by another way; if it is the new one, remove the old: ssh-keygen -R {server}. If not, somebody stands between"},
	"SSH_HOSTKEY_UNKNOWN": {"the server's host key is not known", "client", "compare the fingerprint with what the administrator says, then: ssh-keyscan {server} >>known_hosts"},
	"SSH_AUTH":            {"the server does not accept passwords of this user", "server", "use a key, or permit passwords for the user (OpenSSH: PasswordAuthentication yes)"},
	"SFTP_OFF":            {"SSH works, SFTP is switched off", "server", "OpenSSH, in sshd_config: Subsystem sftp internal-sftp"},
	"WRITE_FAILED":        {"a test file could not be stored and read back", "server", "see the server's reply"},
}

// Codes returns all codes with what they stand for, sorted.
func Codes() (codes []string, by map[string]Cause) {
	return slices.Sorted(maps.Keys(causes)), maps.Clone(causes)
}

// fill are the words that replace {…} in a cure.
type fill struct{ ports, rng, server, port string }

func (f fill) in(text string) string {
	or := func(s, alt string) string {
		if s == "" {
			return alt
		}
		return s
	}
	return strings.NewReplacer("{ports}", or(f.ports, "of the plan"), "{range}", or(f.rng, "of the passive range"), "{server}", or(f.server, "the server"), "{port}", or(f.port, "21")).Replace(text)
}

// finding makes a finding of a code, with the vocabulary's title, box and cure.
func finding(code string, s Severity, f fill, cause string, args ...any) Finding {
	c, known := causes[code]
	if !known {
		panic("doctor: no such code: " + code) // a mistake of ours that any test of the path shows
	}
	return Finding{Code: code, Title: c.Title, Box: c.Box, Fix: f.in(c.Fix), Severity: s, Cause: fmt.Sprintf(cause, args...)}
}
