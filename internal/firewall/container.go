package firewall

import (
	"fmt"
	"net/netip"

	"github.com/portreeve/portreeve/internal/ports"
)

func isIP(s string) bool { _, err := netip.ParseAddr(s); return err == nil }

// network24 is the likely LAN around an inside address.
func network24(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return "192.168.0.0/16"
	}
	return netip.PrefixFrom(a, 24).Masked().String()
}

// Above these numbers of ports, publishing one by one is not sensible: a
// container engine starts a process or a rule for each and balancers charge or
// refuse them. The host's own network is used instead.
const (
	maxPublished = 200
	maxService   = 150
)

func (w *writer) total() int {
	n := 0
	for _, r := range w.allPorts() {
		n += r.Len()
	}
	return n
}

func (w *writer) passiveAddress() string {
	if w.outer != "" {
		return w.outer
	}
	return "${PORTREEVE_ADDRESS}"
}

func compose(w *writer) {
	use := []string{"Try:  docker compose -f FILE config"}
	host := w.total() > maxPublished
	if host {
		use = append(use, fmt.Sprintf("%d ports are too many to publish one by one (the engine starts up to two processes for each), so the", w.total()),
			fmt.Sprintf("service uses the host's network. To publish them, make ftp.passive.ports a range of at most %d ports.", maxPublished))
	} else {
		use = append(use, "Every port keeps its number: clients connect to the one the server names.",
			"Active mode does not work through published ports; the host's network (network_mode: host) permits it.")
	}
	if w.outer == "" {
		use = append(use, "Run with PORTREEVE_ADDRESS set to the address or name that clients connect to (a file .env will do).")
	}
	w.header(use...)
	w.ln("services:\n  portreeve:\n    image: ${PORTREEVE_IMAGE:-portreeve/portreeve:latest}\n    restart: unless-stopped\n    environment:")
	w.ln("      PORTREEVE_FTP_PASSIVE_ADDRESS: %q", w.passiveAddress())
	w.ln("    volumes:\n      - portreeve:/var/lib/portreeve")
	if host {
		w.ln("    network_mode: host")
	} else {
		w.ln("    ports:")
		for _, r := range w.allPorts() {
			w.ln("      - \"%s:%s\"", r, r)
		}
	}
	w.ln("\nvolumes:\n  portreeve:")
}

func kubernetes(w *writer) {
	if w.total() > maxService {
		w.kubernetesHost()
		return
	}
	w.header(
		"A Service has no port ranges, so every port is listed. The pods carry the label app: portreeve.",
		"One replica only: data connections must reach the pod that the control connection reached.",
		"externalTrafficPolicy Local keeps the client's address, which the server compares for each transfer.",
		"Set ftp.passive.address to the address or name of the Service. Active mode does not work through it.",
		"",
		"Try:  kubectl apply --dry-run=server -f FILE")
	w.ln("apiVersion: v1\nkind: Service\nmetadata:\n  name: portreeve\nspec:\n  type: LoadBalancer\n  externalTrafficPolicy: Local\n  sessionAffinity: ClientIP")
	v4, v6 := w.families()
	switch {
	case v4 && v6:
		w.ln("  ipFamilyPolicy: PreferDualStack")
	case v6:
		w.ln("  ipFamilyPolicy: SingleStack\n  ipFamilies:\n    - IPv6")
	}
	w.ln("  selector:\n    app: portreeve\n  ports:")
	listed := map[int]bool{}
	for i := range w.plan.Flows {
		f := &w.plan.Flows[i]
		if f.Direction != ports.In || f.Local() {
			continue
		}
		for p := int(f.Internal.Ports.First); p <= int(f.Internal.Ports.Last); p++ {
			if listed[p] { // another listener has it on another address
				continue
			}
			listed[p] = true
			w.ln("    - name: %s-%d\n      port: %d\n      targetPort: %d\n      protocol: TCP", serviceName(f), p, p, p)
		}
	}
}

func serviceName(f *ports.Flow) string {
	if f.Purpose == ports.PassiveData {
		return "data"
	}
	return f.Services[0]
}

// kubernetesHost is for ranges too long for a Service.
func (w *writer) kubernetesHost() {
	w.header(
		fmt.Sprintf("%d ports are too many for a Service, which has no port ranges (balancers refuse so many). This is a patch", w.total()),
		"for the Deployment that puts the pod on the network of its node instead; give the node a fixed address or",
		fmt.Sprintf("pin the pod to it. For a Service make ftp.passive.ports a range of at most %d ports.", maxService),
		"",
		"Load:  kubectl patch deployment portreeve --patch-file FILE")
	w.ln("spec:\n  replicas: 1\n  strategy:\n    type: Recreate\n    rollingUpdate: null\n  template:\n    spec:\n      hostNetwork: true\n      dnsPolicy: ClusterFirstWithHostNet")
	w.ln("      containers:\n        - name: portreeve\n          env:\n            - name: PORTREEVE_FTP_PASSIVE_ADDRESS")
	if w.outer != "" {
		w.ln("              value: %q", w.outer)
	} else {
		w.ln("              valueFrom:\n                fieldRef:\n                  fieldPath: status.hostIP")
	}
}
