// Package config owns the configuration file: its structure, defaults, strict
// reading with the line of every mistake, overrides from environment and
// flags, and the reference pages made from the same structs. It does not own
// users, groups or rules (they are rows of the store) and it opens nothing but
// the file itself.
//
// Secrets are never values of the file: a key that needs one names a file and
// ends in _file, or a variable and ends in _env, or is a path such as tls.key.
package config

import (
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Config is the whole configuration. Values returned by Load, Parse and
// QuickStart are complete, checked and must not be changed: a reload makes a
// new one. A Config built by hand from Default needs Complete.
type Config struct {
	DataDir  string   `toml:"data_dir" default:"/var/lib/portreeve" path:"dir" reload:"restart" doc:"Where the database, the generated certificate and the control socket are kept. A relative path starts at the directory of this file."`
	Database string   `toml:"database_url_file" default:"" example:"\"/etc/portreeve/database-url\"" path:"file" reload:"restart" doc:"File whose first line is the URL of a PostgreSQL database, such as postgres://portreeve:secret@db.example.org/portreeve. Empty keeps accounts and trail in SQLite, in data_dir."`
	Drain    Duration `toml:"drain" default:"10m" reload:"live" doc:"How long a stopping server lets running transfers finish. A second signal stops at once."`

	CryptoPolicy CryptoName `toml:"crypto_policy" example:"\"2026-11\"" reload:"live" derived:"the newest one, 2026-11" doc:"Dated set of algorithms for TLS and SSH. A set never changes, so naming one keeps it through upgrades; without the key an upgrade may bring a newer one. legacy-2026-11 adds what old clients need, 2026-11-fips is for the FIPS build. portreeve check --crypto lists them."`

	Listen     []Listen   `toml:"listen" doc:"One entry for each socket that takes connections."`
	FTP        FTP        `toml:"ftp" doc:"The FTP protocol, for every listener that speaks it."`
	NAT        NAT        `toml:"nat" doc:"Finding the public address and opening the router. What is found is announced to clients from outside only while ftp.passive.address is empty; clients in this machine's own networks are told the address they reached."`
	SFTP       SFTP       `toml:"sftp" doc:"SFTP and SCP, for every listener that speaks them."`
	TLS        TLS        `toml:"tls" doc:"Certificates. Without any, a self-signed one is made and kept in data_dir/tls."`
	Limits     Limits     `toml:"limits" doc:"Ceilings for the whole server. Limits of one account belong to the account."`
	GeoIP      GeoIP      `toml:"geoip" doc:"Countries that connections may come from, on all listeners. The database is yours to bring and to renew: any file in the MaxMind DB format that has country.iso_code or country_code."`
	Upload     Upload     `toml:"upload" doc:"How uploads are stored."`
	Passwords  Passwords  `toml:"passwords" doc:"How passwords are kept."`
	Anonymous  Anonymous  `toml:"anonymous" doc:"Log-in without an account, as \"anonymous\" or \"ftp\"."`
	External   External   `toml:"external" doc:"Log-in with passwords that a program or an HTTP service checks. Accounts with a password of their own do not use it."`
	LDAP       LDAP       `toml:"ldap" doc:"Log-in with the passwords of a directory (LDAP, Active Directory). Accounts with a password of their own do not use it."`
	Log        Log        `toml:"log" doc:"The server's own log. Transfers are also kept in the database."`
	Audit      Audit      `toml:"audit" doc:"The trail of log-ins, transfers and changes. It is kept in the database, as a chain that shows every later change (portreeve event verify)."`
	Metrics    Metrics    `toml:"metrics" doc:"Counters for Prometheus."`
	Traces     Traces     `toml:"traces" doc:"Traces for an OpenTelemetry collector: log-ins, transfers, listings and deliveries of hooks as spans, one trace for each session."`
	Transcript Transcript `toml:"transcript" doc:"Protocol transcripts of single sessions, which are recorded only when an administrator asks for one (portreeve session transcript start)."`
	Hooks      []Hook     `toml:"hook" doc:"Receivers that are told of events, or asked before something happens (docs/guides/events.md)."`
	Mail       Mail       `toml:"mail" doc:"The mail server that hooks use."`
	Tasks      []Task     `toml:"task" doc:"Work that the server does by the clock: retention of files and events, sweeping, counting."`
	Security   Security   `toml:"security" doc:"What the process may reach at all, whatever a mistake in it would let somebody do."`
	Admin      Admin      `toml:"admin" doc:"Administration: the control socket of the command line, and the API over HTTPS."`

	src source
}

// Listen is one [[listen]] entry.
type Listen struct {
	Name           string     `toml:"name" example:"\"office\"" reload:"live" derived:"protocol and port, such as ftp-21" doc:"Name in logs, events and the status page."`
	Protocol       Protocol   `toml:"protocol" reload:"live" required:"true" doc:"ftp has TLS on offer (AUTH TLS); ftps starts with TLS; sftp is file transfer over SSH."`
	Address        string     `toml:"address" reload:"live" derived:"all addresses, at port 21, 990 or 22" doc:"IP address and port. Without an address it is all of them, IPv4 and IPv6; 0.0.0.0 is IPv4 alone and [::] is IPv6 alone. Port 0 takes any free one, for tests."`
	TLS            Policy     `toml:"tls" reload:"live" derived:"required, for sftp off" doc:"Protection of log-in and commands. required refuses USER before AUTH TLS. Always required with ftps."`
	DataTLS        Policy     `toml:"data_tls" example:"\"required\"" reload:"live" derived:"same as tls" doc:"Protection of files and listings. off refuses PROT P, required refuses PROT C."`
	DataSession    Binding    `toml:"data_session" default:"prefer" reload:"live" doc:"Whether a protected data connection must resume the TLS session of its own control connection, which proves that both come from the same client. prefer demands it once the client has shown that it can, and then also accepts a session of the same account and address; require demands it always and locks out clients that cannot."`
	ClientCert     Demand     `toml:"client_cert" default:"off" reload:"live" doc:"Client certificates. With tls.client_ca they must be issued by it."`
	CertLogin      bool       `toml:"cert_login" default:"false" reload:"live" doc:"Whether a client certificate that belongs to an account logs in without a password."`
	AllowCCC       bool       `toml:"allow_ccc" default:"false" reload:"live" doc:"Whether a client may end the protection of the command channel after log-in (CCC), which some firewalls with an FTP helper need."`
	StrictClose    bool       `toml:"strict_close" default:"true" reload:"live" doc:"Whether a protected upload must end with the TLS close message. true reports one without it as failed and does not store it, since it may have been cut short. false accepts it, for old clients that never send the message, unless it ends within a record and so was cut short for certain."`
	Hosts          []string   `toml:"hosts" example:"[\"ftp.example.org\"]" reload:"live" doc:"Names accepted by the HOST command and by TLS server name; *.example.org covers one label. Empty accepts any."`
	Proxy          []Prefix   `toml:"proxy" example:"[\"10.0.0.2\"]" reload:"live" doc:"Networks of load balancers that send a PROXY header, which is then demanded from them. From anybody else such a header is refused."`
	PassivePorts   *PortRange `toml:"passive_ports" example:"\"51000-51099\"" reload:"live" derived:"ftp.passive.ports" doc:"Own range of passive ports for this listener."`
	PassiveAddress string     `toml:"passive_address" example:"\"203.0.113.5\"" reload:"live" derived:"ftp.passive.address" doc:"Own announced address for this listener."`
	Banner         string     `toml:"banner" reload:"live" derived:"ftp.banner" doc:"Own greeting for this listener."`
	HostKeys       []string   `toml:"host_keys" example:"[\"/etc/ssh/ssh_host_ed25519_key\"]" reload:"live" derived:"those made at the first start, in data_dir/ssh" doc:"Private key files with which an sftp listener proves itself. A certificate in a file of the same name with -cert.pub added is used as well."`
	LegacyTLS      bool       `toml:"legacy_tls" default:"false" reload:"live" doc:"Whether TLS 1.0 and 1.1 are accepted on this listener, for devices that know nothing newer. Both are broken: give such devices a listener of their own."`
}

// FTP is [ftp].
type FTP struct {
	Banner       string       `toml:"banner" default:"" reload:"live" doc:"Text of the greeting. Empty greets without naming the program's version."`
	Active       bool         `toml:"active" default:"true" reload:"live" doc:"Whether clients may use active mode (PORT and EPRT)."`
	ActiveSource ActiveSource `toml:"active_source" default:"control-1" reload:"live" doc:"Source port of active data connections: control-1 is the control port minus 1 (20, 989) where the system permits it, any lets the system choose."`
	FXP          []Prefix     `toml:"fxp" example:"[\"192.0.2.0/24\"]" reload:"live" doc:"Networks, other than the client's own address, that PORT and EPRT may point to, for transfers between two servers. Empty is the safe choice."`
	ASCII        bool         `toml:"ascii" default:"true" reload:"live" doc:"Whether TYPE A converts line ends. false treats it as binary, also for SIZE."`
	LoginTimeout Duration     `toml:"login_timeout" default:"60s" min:"1s" reload:"live" doc:"Time from the connection to a finished log-in."`
	IdleTimeout  Duration     `toml:"idle_timeout" default:"15m" min:"1s" reload:"live" doc:"Time without a command and without a transfer before a session is closed."`
	StallTimeout Duration     `toml:"stall_timeout" default:"2m" min:"1s" reload:"live" doc:"Time without a byte before a transfer is given up."`
	DataTimeout  Duration     `toml:"data_timeout" default:"30s" min:"1s" reload:"live" doc:"Time for a data connection to come about."`
	ListDepth    int          `toml:"list_depth" default:"16" min:"1" max:"256" reload:"live" doc:"How deep LIST -R descends."`
	ListEntries  int          `toml:"list_entries" default:"10000" min:"1" max:"10000000" reload:"live" doc:"How many entries LIST -R sends."`
	MaxLine      int          `toml:"max_line" default:"4096" min:"512" max:"65536" reload:"live" doc:"Longest command line, in bytes."`
	TLSRecords   Records      `toml:"tls_records" default:"auto" reload:"live" doc:"Who encrypts the data of protected uploads and of downloads from 64 KiB with TLS 1.3 and AES-GCM. auto: the server itself where the processor has 512-bit AES (AMD Zen 4, Intel Ice Lake and later), otherwise Go's standard library. own: always the server itself. standard: always the standard library, as in FIPS 140-3 mode. The handshake is the standard library's in any case."`
	Passive      Passive      `toml:"passive" doc:"Passive mode (PASV and EPSV): the client connects to one of these ports for each transfer. They must be open in every firewall on the way."`
}

// Passive is [ftp.passive].
type Passive struct {
	Ports          PortRange      `toml:"ports" default:"50000-50999" reload:"live" doc:"Range of ports, within 1024-65535. Every transfer that runs at the same time needs one."`
	Address        string         `toml:"address" default:"" reload:"live" doc:"Address announced to clients: an IP address, a host name, or empty for the address the client reached. Set it to the public address behind NAT."`
	Shared         string         `toml:"shared" default:"" example:"\":989\"" reload:"restart" doc:"One address and port for the protected data connections of all sessions, such as :989. The client's TLS session tells whose connection it is, so this port takes the place of the whole range for FTPS; clear sessions keep the range. Empty: every transfer uses the range."`
	SharedFallback SharedFallback `toml:"shared_fallback" default:"address" reload:"restart" doc:"What becomes of a client that does not resume its TLS session on the shared port. address: it is known by its address when no other session from there waits; range: it gets a port of the range; refuse: it is refused with the reason. Listeners with data_session = require always refuse."`
	Resolve        Duration       `toml:"resolve" default:"5m" min:"1s" reload:"live" doc:"How long a resolved host name in address is used before it is looked up again."`
	ExternalPorts  *PortRange     `toml:"external_ports" example:"\"60000-60999\"" reload:"live" derived:"ports" doc:"The numbers of ports outside, where the router forwards them from others: as many, in the same order. Clients from outside are told these."`
	SharedExternal int            `toml:"shared_external" default:"0" min:"0" max:"65535" reload:"live" doc:"The number of the shared port outside, where the router forwards it from another; 0 is the same."`
	Rules          []PassiveRule  `toml:"rule" doc:"Other addresses for clients of certain networks, such as the inside of a NAT. The first rule that matches counts."`
}

// PassiveRule is one [[ftp.passive.rule]].
type PassiveRule struct {
	Networks []Prefix   `toml:"networks" example:"[\"10.0.0.0/8\"]" reload:"live" required:"true" doc:"Networks of the clients."`
	Address  string     `toml:"address" example:"\"10.0.0.5\"" reload:"live" required:"true" doc:"Address announced to them: an IP address or a host name."`
	External *PortRange `toml:"external_ports" example:"\"60000-60999\"" reload:"live" derived:"ftp.passive.ports" doc:"The numbers of the passive ports at that address, where they are others."`
}

// NAT is [nat].
type NAT struct {
	Router bool     `toml:"router" default:"false" reload:"restart" doc:"Whether the router in front is asked to forward the ports of this server for as long as it runs, by PCP, NAT-PMP or UPnP, and for its outer address. For home routers: at most 128 ports."`
	Cloud  bool     `toml:"cloud" default:"false" reload:"restart" doc:"Whether the metadata service of the cloud (EC2, GCE, Azure) is asked for the public address."`
	STUN   string   `toml:"stun" default:"" example:"\"stun.example.org:3478\"" reload:"restart" doc:"Host and port of a STUN server that is asked for the public address. It learns that this machine exists. Empty asks nobody."`
	Every  Duration `toml:"every" default:"5m" min:"10s" reload:"restart" doc:"How often they are asked. A change is told to clients at once, logged and kept as an event."`
}

// SFTP is [sftp].
type SFTP struct {
	Banner        string   `toml:"banner" default:"" reload:"live" doc:"Text that SSH clients show before the log-in. Empty: none. A listener may have its own."`
	LoginTimeout  Duration `toml:"login_timeout" default:"60s" min:"1s" reload:"live" doc:"Time from the connection to a finished log-in."`
	IdleTimeout   Duration `toml:"idle_timeout" default:"15m" min:"1s" reload:"live" doc:"Time without a request before a connection is closed that has no file open."`
	KeepAlive     Duration `toml:"keep_alive" default:"60s" min:"1s" reload:"live" doc:"How often a client is asked whether it is still there, which also keeps routers from forgetting the connection."`
	Compatible    bool     `toml:"compatible" default:"false" reload:"live" doc:"Whether old clients are given algorithms that audits object to: NIST curves and ECDSA host keys, a 2048-bit group, MACs computed before encryption. SHA-1 and CBC are never offered."`
	TrustedUserCA string   `toml:"trusted_user_ca" default:"" example:"\"/etc/portreeve/user_ca.pub\"" path:"file" reload:"live" doc:"Public keys of authorities, one a line, whose user certificates log in as the accounts they name."`
	RevokedKeys   string   `toml:"revoked_keys" default:"" example:"\"/etc/portreeve/revoked\"" path:"file" reload:"live" doc:"Keys and certificates that no longer log in, one a line: a public key, SHA256:..., serial: 5, serial: 5-9 or id: NAME."`
}

// TLS is [tls].
type TLS struct {
	Cert         string        `toml:"cert" default:"" example:"\"/etc/portreeve/cert.pem\"" path:"file" reload:"live" doc:"Certificate file, PEM, followed by the intermediate ones."`
	Key          string        `toml:"key" default:"" example:"\"/etc/portreeve/key.pem\"" path:"file" reload:"live" doc:"Private key file of cert, PEM, not encrypted."`
	MinVersion   TLSVersion    `toml:"min_version" example:"\"1.3\"" reload:"live" derived:"that of crypto_policy" doc:"Oldest TLS version accepted."`
	ClientCA     string        `toml:"client_ca" default:"" example:"\"/etc/portreeve/clients.pem\"" path:"file" reload:"live" doc:"Certificate authorities that issue client certificates, PEM."`
	ACME         ACME          `toml:"acme" doc:"A certificate from an authority with the ACME protocol, such as Let's Encrypt, renewed by the server itself. It serves in the place of the self-signed one, and of tls.cert for its names."`
	Certificates []Certificate `toml:"certificate" doc:"Further certificates. The client's server name chooses among them; tls.cert, or else the first one, serves clients that send none."`
}

// ACME is [tls.acme].
type ACME struct {
	Domains   []string  `toml:"domains" example:"[\"ftp.example.org\"]" reload:"restart" doc:"Names that one certificate is asked for. Each must lead to this machine. Naming one accepts the authority's terms. Empty is no such certificate."`
	Email     string    `toml:"email" default:"" example:"\"ops@example.org\"" reload:"restart" doc:"Where the authority writes to when something is wrong. It may stay empty."`
	Directory string    `toml:"directory" default:"https://acme-v02.api.letsencrypt.org/directory" reload:"restart" doc:"Address of the authority's ACME directory."`
	Challenge Challenge `toml:"challenge" default:"http-01" reload:"restart" doc:"How the right to the names is proved: http-01 answers on port 80, tls-alpn-01 on port 443."`
	Address   string    `toml:"address" example:"\"203.0.113.5:80\"" reload:"restart" derived:"[::]:80, or [::]:443 for tls-alpn-01" doc:"IP address and port where the proofs are served, and nothing else. The authority always asks at port 80 or 443; use another port behind a forwarding router."`
	CA        string    `toml:"ca" default:"" example:"\"/etc/portreeve/acme-ca.pem\"" path:"file" reload:"restart" doc:"Certificate authorities of the directory itself, PEM, for a private one. Empty is those of the system."`
}

// Certificate is one [[tls.certificate]].
type Certificate struct {
	Cert string `toml:"cert" example:"\"/etc/portreeve/other-cert.pem\"" path:"file" reload:"live" required:"true" doc:"Certificate file, PEM."`
	Key  string `toml:"key" example:"\"/etc/portreeve/other-key.pem\"" path:"file" reload:"live" required:"true" doc:"Private key file, PEM."`
}

// Limits is [limits]. A limit of 0 is none.
type Limits struct {
	MaxConnections int      `toml:"max_connections" default:"10000" min:"0" reload:"live" doc:"Control connections at the same time; 0 is no limit."`
	PerAddress     int      `toml:"per_address" default:"100" min:"0" reload:"live" doc:"Control connections at the same time from one IPv4 address or IPv6 /64; 0 is no limit."`
	PerUser        int      `toml:"per_user" default:"0" min:"0" reload:"live" doc:"Sessions at the same time of one account; 0 is no limit."`
	HalfOpen       int      `toml:"half_open" default:"80" min:"0" reload:"live" doc:"Connections at the same time from one address that have not logged in; 0 is no limit."`
	MaxHalfOpen    int      `toml:"max_half_open" default:"1000" min:"0" reload:"live" doc:"Connections at the same time, from all addresses, that have not logged in. From 70 percent of it on new ones are turned away at random, more the fuller it gets, so that a flood cannot keep everybody out; 0 is no limit."`
	Allow          []Prefix `toml:"allow" example:"[\"192.0.2.0/24\"]" reload:"live" doc:"Networks that may connect at all. Empty is every network."`
	Deny           []Prefix `toml:"deny" example:"[\"198.51.100.0/24\"]" reload:"live" doc:"Networks whose connections are dropped, also when allow lists them."`
	LoginFailures  int      `toml:"login_failures" default:"10" min:"0" reload:"live" doc:"Failed log-ins from one address within login_window before it is banned; 0 never bans."`
	LoginWindow    Duration `toml:"login_window" default:"10m" min:"1s" reload:"live" doc:"Time after which a failed log-in is forgotten."`
	BanTime        Duration `toml:"ban_time" default:"15m" min:"1s" reload:"live" doc:"How long an address stays banned."`
	NeverBan       []Prefix `toml:"never_ban" example:"[\"192.0.2.0/24\"]" reload:"live" doc:"Networks that are not banned and not counted by per_address, such as an office behind NAT."`
	BandwidthDown  Rate     `toml:"bandwidth_down" default:"0" reload:"live" doc:"Downloads of all sessions together, such as 10MB/s; 0 is no limit."`
	BandwidthUp    Rate     `toml:"bandwidth_up" default:"0" reload:"live" doc:"Uploads of all sessions together; 0 is no limit."`
	UploadSize     Size     `toml:"upload_size" default:"0" reload:"live" doc:"Largest single file that may be uploaded, such as 10 GiB; 0 is no limit."`
}

// GeoIP is [geoip].
type GeoIP struct {
	Database string         `toml:"database" default:"" example:"\"/var/lib/GeoIP/GeoLite2-Country.mmdb\"" path:"file" reload:"live" doc:"The database. It is read at the start and at each reload, which picks up a new one; a reload with a broken one changes nothing. Empty: countries play no part."`
	Allow    []Country      `toml:"allow" example:"[\"DE\", \"AT\", \"CH\"]" reload:"live" doc:"Countries (ISO 3166-1, two letters) that connections may come from. Empty is every country."`
	Deny     []Country      `toml:"deny" example:"[\"KP\"]" reload:"live" doc:"Countries whose connections are dropped at accept."`
	Unknown  UnknownCountry `toml:"unknown" default:"allow" reload:"live" doc:"Addresses that the database knows no country of. Loopback, private, link-local and carrier-grade NAT addresses belong to no country and are always let in, and so are the networks in limits.never_ban; limits.deny comes first."`
}

// Upload is [upload].
type Upload struct {
	Mode        UploadMode `toml:"mode" default:"atomic" reload:"live" doc:"atomic shows a file under its name when it is complete, visible writes in place, atomic-resume keeps what arrived so that the same user may continue it."`
	KeepPartial bool       `toml:"keep_partial" default:"false" reload:"live" doc:"Whether a visible upload that failed stays, so that it can be resumed with REST or APPE."`
	Sync        SyncMode   `toml:"sync" default:"none" reload:"live" doc:"close makes every upload durable on disk before it is reported complete, which costs speed with many small files; none leaves it to the system."`
}

// Passwords is [passwords].
type Passwords struct {
	Rehash bool `toml:"rehash" default:"true" reload:"live" doc:"Whether a password that came with a hash of another server is stored anew, as argon2id, when its user logs in."`
	// These hold for new passwords, wherever one is set.
	MinLength    int  `toml:"min_length" default:"8" min:"0" reload:"live" doc:"Least number of characters of a new password; 0 takes any. Passwords that are set already stay."`
	RefuseCommon bool `toml:"refuse_common" default:"true" reload:"live" doc:"Whether new passwords are refused that everybody guesses first: the commonest ones, the user's name, plain sequences."`
}

// Anonymous is [anonymous].
type Anonymous struct {
	Enabled bool   `toml:"enabled" default:"false" reload:"live" doc:"Whether anonymous log-in is possible."`
	Home    string `toml:"home" default:"" example:"\"/srv/public\"" path:"dir" reload:"live" doc:"Directory that anonymous users see."`
	Upload  bool   `toml:"upload" default:"false" reload:"live" doc:"Whether they may upload new files. They can never overwrite, rename or delete."`
}

// Log is [log].
type Log struct {
	Level  LogLevel  `toml:"level" default:"info" reload:"live" doc:"Least important message that is written; debug shows the protocol lines, without passwords."`
	Format LogFormat `toml:"format" default:"text" reload:"restart" doc:"text for people, json for programs."`
	File   string    `toml:"file" default:"" example:"\"/var/log/portreeve.log\"" path:"new" reload:"restart" doc:"File to write to. It may be moved away while the server runs, as logrotate does; the server does not rotate it itself. Empty writes to standard error."`
}

// Audit is [audit].
type Audit struct {
	Required bool        `toml:"required" default:"false" reload:"restart" doc:"Whether a log-in, transfer or change is reported as done only when its event is on the disk, and refused while events cannot be stored. It costs a disk write for each, shared by those that happen together. false keeps events within a tenth of a second, which a crash may lose."`
	Keep     Duration    `toml:"keep" default:"0s" reload:"live" doc:"How long events are kept; 0s is for ever."`
	Files    []AuditFile `toml:"file" doc:"Files that events are also written to, each at least once, even after a crash."`
}

// AuditFile is one [[audit.file]].
type AuditFile struct {
	Path    string      `toml:"path" example:"\"/var/log/portreeve/xferlog\"" path:"new" reload:"restart" required:"true" doc:"The file. It may be moved away while the server runs, as logrotate does."`
	Format  AuditFormat `toml:"format" default:"json" reload:"restart" doc:"json and text hold every event, w3c too, in the W3C extended log format; xferlog holds uploads, downloads and deletions as wu-ftpd wrote them."`
	MaxSize Size        `toml:"max_size" default:"100MB" reload:"restart" doc:"Size at which a new file is begun; 0 is never."`
	MaxAge  Duration    `toml:"max_age" default:"0s" reload:"restart" doc:"Age at which a new file is begun; 0s is never."`
	Keep    int         `toml:"keep" default:"10" min:"0" max:"10000" reload:"restart" doc:"How many old files are kept, as path.1, path.2 and so on."`
}

// Metrics is [metrics].
type Metrics struct {
	Address string `toml:"address" default:"" example:"\"127.0.0.1:9121\"" reload:"restart" doc:"IP address and port of an HTTP page /metrics in Prometheus's format. It has no log-in of its own, so use a loopback address. Empty is no such page."`
}

// Traces is [traces].
type Traces struct {
	Endpoint    string `toml:"endpoint" default:"" example:"\"http://127.0.0.1:4318\"" reload:"restart" doc:"URL of the collector, which speaks OTLP over HTTP. Without a path it is /v1/traces. Spans carry accounts and addresses, never paths. Empty is no traces, which cost nothing."`
	HeadersFile string `toml:"headers_file" default:"" example:"\"/etc/portreeve/otlp-headers\"" path:"file" reload:"restart" doc:"File with headers for the collector, such as a key, each on a line as Name: value."`
	CA          string `toml:"ca" default:"" example:"\"/etc/portreeve/otlp-ca.pem\"" path:"file" reload:"restart" doc:"Certificate authorities of the collector, PEM. Empty is those of the system."`
	Sample      int    `toml:"sample" default:"100" min:"1" max:"100" reload:"restart" doc:"How many of a hundred sessions are traced, each with all of its spans or none."`
}

// Transcript is [transcript].
type Transcript struct {
	Keep       Duration `toml:"keep" default:"168h" min:"0s" reload:"live" doc:"How long a transcript is kept in data_dir/transcripts after its last line; 0s is until it is removed by hand."`
	MaxSession Size     `toml:"max_session" default:"1MB" reload:"live" doc:"Ceiling of one transcript. What comes after it is not recorded."`
	MaxTotal   Size     `toml:"max_total" default:"64MB" reload:"live" doc:"Ceiling of all transcripts together. When it is reached nothing more is recorded until some are removed or too old."`
}

// LDAP is [ldap].
type LDAP struct {
	URL          string   `toml:"url" default:"" example:"\"ldaps://dc.example.org\"" reload:"live" doc:"Address of the directory: ldaps://host, or ldap://host with start_tls. Empty is no directory."`
	StartTLS     bool     `toml:"start_tls" default:"false" reload:"live" doc:"Whether an ldap:// connection turns to TLS before anything is said. Without TLS only a directory on this machine is asked."`
	CA           string   `toml:"ca" default:"" example:"\"/etc/portreeve/dc.pem\"" path:"file" reload:"live" doc:"Certificate authorities of the directory, PEM. Empty is those of the system."`
	BindDN       string   `toml:"bind_dn" default:"" example:"\"cn=portreeve,ou=services,dc=example,dc=org\"" reload:"live" doc:"Account that searches for users. Empty searches anonymously."`
	PasswordFile string   `toml:"password_file" default:"" example:"\"/etc/portreeve/ldap-password\"" path:"file" reload:"live" doc:"File with the password of bind_dn in its first line."`
	Base         string   `toml:"base" default:"" example:"\"dc=example,dc=org\"" reload:"live" doc:"Where in the directory users and groups are."`
	Filter       string   `toml:"filter" default:"(uid=%u)" reload:"live" doc:"Finds the entry of a user; %u is the name. For Active Directory: (&(objectClass=user)(sAMAccountName=%u))."`
	Home         string   `toml:"home" default:"" example:"\"/srv/ftp/%u\"" reload:"live" doc:"Home of users who have no account in the database; %u is the name. Without it their groups must give one."`
	Groups       []string `toml:"groups" example:"[\"staff=cn=ftp,ou=groups,dc=example,dc=org\"]" reload:"live" doc:"Groups of the directory that stand for groups here, as NAME=DN."`
	Timeout      Duration `toml:"timeout" default:"5s" min:"1s" reload:"live" doc:"How long a log-in waits for the directory. When it does not answer, nobody it is asked about is let in."`
}

// External is [external].
type External struct {
	Program    []string `toml:"program" example:"[\"/usr/local/bin/check-password\"]" reload:"live" doc:"Program and its arguments, without a shell. It reads a JSON object (user, password, protocol, listener, remote, tls) from standard input and ends with 0 for yes and 1 for no; anything else is a failure. It may print {\"groups\": [...]}."`
	URL        string   `toml:"url" default:"" example:"\"https://auth.example.org/check\"" reload:"live" doc:"HTTP service that gets the same object by POST and answers 200 or 204 for yes and 401, 403 or 404 for no. Not asked when there is a program."`
	SecretFile string   `toml:"secret_file" default:"" example:"\"/etc/portreeve/hook-secret\"" path:"file" reload:"live" doc:"File whose first line the service is sent as a bearer token."`
	Home       string   `toml:"home" default:"" example:"\"/srv/ftp/%u\"" reload:"live" doc:"Home of users who have no account in the database; %u is the name. Without it the groups of the answer must give one."`
	Timeout    Duration `toml:"timeout" default:"5s" min:"1s" reload:"live" doc:"How long a log-in waits for the answer. When there is none, nobody it is asked about is let in."`
	Parallel   int      `toml:"parallel" default:"16" min:"1" reload:"live" doc:"Most questions at a time; further log-ins wait, within timeout."`
}

// Security is [security].
type Security struct {
	Roots    []string `toml:"roots" example:"[\"/srv\"]" reload:"restart" doc:"Directories in which all homes and folders of users lie. When there are any, the kernel (Landlock) keeps the server and the programs it starts to them, to data_dir, to the files and directories this configuration names, and to reading the system's programs and libraries. A home elsewhere can then not be opened. Empty leaves the process with the rights of its user."`
	Landlock Landlock `toml:"landlock" default:"auto" reload:"restart" doc:"What happens with roots on a kernel without Landlock: auto says so in the log and goes on, required refuses to start, off does not use it."`
}

// Admin is [admin].
type Admin struct {
	Socket  string `toml:"socket" example:"\"/run/portreeve.sock\"" default:"" path:"new" reload:"restart" derived:"data_dir/portreeve.sock" doc:"Unix socket of the control commands."`
	Address string `toml:"address" default:"" example:"\"0.0.0.0:8443\"" reload:"restart" doc:"IP address and port of the administrative interface over HTTPS, for administrators with a token (portreeve admin, portreeve token). Empty is no such interface."`
	OIDC    OIDC   `toml:"oidc" doc:"Tokens of an OpenID Connect provider at [admin] address; \"portreeve login --oidc\" gets one."`
}

// OIDC is [admin.oidc].
type OIDC struct {
	Issuer         string   `toml:"issuer" default:"" example:"\"https://login.example.org\"" reload:"restart" doc:"The provider, exactly as it writes itself. Empty is none."`
	ClientID       string   `toml:"client_id" default:"" example:"\"portreeve\"" reload:"restart" doc:"Portreeve's id at the provider: a public (native) client with PKCE that may come back to http://127.0.0.1/callback."`
	Audiences      []string `toml:"audiences" example:"[\"https://ftp.example.org/api\"]" reload:"restart" doc:"Audiences of access tokens that are accepted besides client_id."`
	Claim          string   `toml:"claim" default:"email" reload:"restart" doc:"Claim that names the administrator: email (only a verified one counts), sub, preferred_username. Its values must be given out by the provider, not chosen by its users."`
	GroupsClaim    string   `toml:"groups_claim" default:"groups" reload:"restart" doc:"Claim with the groups; a dot goes into an object, such as realm_access.roles."`
	Scopes         []string `toml:"scopes" example:"[\"email\", \"groups\"]" reload:"restart" derived:"email, profile" doc:"What \"portreeve login\" asks the provider for besides openid."`
	Administrators []string `toml:"administrators" example:"[\"auth0|1234=ops\"]" reload:"restart" doc:"Values of claim that stand for an administrator of another name, as VALUE=ADMINISTRATOR. Other values stand for the administrator of that name."`
	Roles          []string `toml:"roles" example:"[\"ftp-admins=all\", \"helpdesk=read,users@partners\"]" reload:"restart" doc:"What members of groups at the provider may do who are no administrator by name, as GROUP=SCOPES or GROUP=SCOPES@GROUPS-HERE. The first that fits counts."`
	CA             string   `toml:"ca" default:"" example:"\"/etc/portreeve/login-ca.pem\"" path:"file" reload:"restart" doc:"Certificate authorities of the provider, PEM. Empty is those of the system."`
	Timeout        Duration `toml:"timeout" default:"5s" min:"1s" reload:"restart" doc:"How long the provider may take to answer. When it does not, its tokens are refused; others work on."`
	ClockSkew      Duration `toml:"clock_skew" default:"1m" max:"10m" reload:"restart" doc:"How far its clock may differ from this one."`
}

// Default returns the configuration of an empty file, with no listener.
func Default() *Config {
	c := &Config{}
	setDefaults(c)
	return c
}

// File returns the name of the file the configuration came from, "" for none.
func (c *Config) File() string { return c.src.file }

// Implicit reports whether TLS starts with the first byte.
func (l *Listen) Implicit() bool { return l.Protocol == ProtocolFTPS }

// Host returns the address to bind; the zero Addr is all of them.
func (l *Listen) Host() netip.Addr {
	host, _, _ := net.SplitHostPort(l.Address)
	a, _ := netip.ParseAddr(host)
	return a
}

// Port returns the port to bind; 0 lets the system choose.
func (l *Listen) Port() uint16 {
	_, port, _ := net.SplitHostPort(l.Address)
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}

// Network returns the network for net.Listen: "tcp4" and "tcp6" for 0.0.0.0
// and [::], which net.Listen("tcp") would both take as all addresses, so that
// the two can be listeners side by side.
func (l *Listen) Network() string {
	switch h := l.Host(); {
	case !h.IsValid():
		return "tcp"
	case h.Is4():
		return "tcp4"
	default:
		return "tcp6"
	}
}

// Ports returns the passive range of l.
func (c *Config) Ports(l *Listen) PortRange {
	if l.PassivePorts != nil {
		return *l.PassivePorts
	}
	return c.FTP.Passive.Ports
}

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }
