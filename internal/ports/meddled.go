package ports

// Meddled names the TCP ports that routers and firewalls inspect or rewrite as
// some other protocol. A data connection on one of them fails on some paths
// and works on others, which looks like "every nth file fails".
var Meddled = map[uint16]string{
	554:  "RTSP helper",
	1503: "T.120 (H.323 data)",
	1719: "H.323 gatekeeper",
	1720: "H.323 call set-up helper",
	1723: "PPTP helper",
	2000: "Cisco SCCP (skinny) helper",
	2121: "alternative FTP port, often given to the FTP helper",
	2427: "MGCP helper",
	2443: "SCCP over TLS",
	2727: "MGCP call agent",
	3128: "transparent web proxy",
	5060: "SIP helper",
	5061: "SIP over TLS",
	5190: "AIM/ICQ file transfer helper",
	6566: "SANE scanner helper",
	6667: "IRC DCC helper",
	7070: "RTSP helper (RealAudio)",
	8080: "transparent web proxy",
	8554: "RTSP helper",
}
