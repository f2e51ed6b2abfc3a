package firewall

import (
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/ports"
)

const statefulNote = "Outgoing connections (active mode) are permitted by default there; a deny rule of your own must not cover TCP 1024-65535."

func awsCLI(w *writer) {
	w.header(
		"Run with the group in the environment:  SECURITY_GROUP=sg-0123456789abcdef0 sh FILE",
		"Network ACLs are stateless: if you use them, also let these ports in and TCP 1024-65535 out.",
		"Set ftp.passive.address to the Elastic IP: the machine itself has only the private address.",
		statefulNote)
	w.ln(`: "${SECURITY_GROUP:?set it to the id of the security group of this machine}"`)
	var perms []string
	for _, r := range w.familyRanges() {
		s := `  {"IpProtocol": "tcp", "FromPort": ` + first(r.PortRange) + `, "ToPort": ` + last(r.PortRange)
		if r.v4 {
			s += `, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "portreeve"}]`
		}
		if r.v6 {
			s += `, "Ipv6Ranges": [{"CidrIpv6": "::/0", "Description": "portreeve"}]`
		}
		perms = append(perms, s+"}")
	}
	w.ln("aws ec2 authorize-security-group-ingress --group-id \"$SECURITY_GROUP\" --ip-permissions '[\n%s\n]'", strings.Join(perms, ",\n"))
}

func first(r ports.PortRange) string { return ports.PortRange{First: r.First, Last: r.First}.String() }
func last(r ports.PortRange) string  { return ports.PortRange{First: r.Last, Last: r.Last}.String() }

// familyRanges returns every range that must be open with the families it is
// open for. A range that both families have is one entry.
func (w *writer) familyRanges() (out []familyRange) {
	v4, v6 := w.portsFor("ipv4"), w.portsFor("ipv6")
	for _, r := range v4 {
		out = append(out, familyRange{r, true, slices.Contains(v6, r)})
	}
	for _, r := range v6 {
		if !slices.Contains(v4, r) {
			out = append(out, familyRange{r, false, true})
		}
	}
	return out
}

type familyRange struct {
	ports.PortRange
	v4, v6 bool
}

func ruleName(r ports.PortRange) string { return strings.ReplaceAll(r.String(), "-", "_") }

func awsTerraform(w *writer) {
	w.header(
		"Network ACLs are stateless: if you use them, also let these ports in and TCP 1024-65535 out.",
		"Set ftp.passive.address to the Elastic IP: the machine itself has only the private address.",
		statefulNote)
	w.ln("variable \"portreeve_security_group_id\" {\n  type        = string\n  description = \"Security group of the machine that runs Portreeve\"\n}")
	for _, r := range w.familyRanges() {
		for _, f := range []struct {
			on              bool
			name, key, cidr string
		}{{r.v4, "ipv4", "cidr_ipv4", "0.0.0.0/0"}, {r.v6, "ipv6", "cidr_ipv6", "::/0"}} {
			if f.on {
				w.ln("\nresource \"aws_vpc_security_group_ingress_rule\" \"portreeve_%s_%s\" {", ruleName(r.PortRange), f.name)
				w.ln("  security_group_id = var.portreeve_security_group_id\n  ip_protocol       = \"tcp\"")
				w.ln("  from_port         = %s\n  to_port           = %s\n  %s         = %q\n  description       = \"portreeve\"\n}", first(r.PortRange), last(r.PortRange), f.key, f.cidr)
			}
		}
	}
}

func gcpCLI(w *writer) {
	w.header(
		"Run with the network in the environment if it is not \"default\":  NETWORK=my-vpc sh FILE",
		"The rules hold for machines with the network tag portreeve; IPv4 and IPv6 sources need a rule each.",
		"Set ftp.passive.address to the external address: the machine itself has only the private one.",
		statefulNote)
	w.ln(`NETWORK="${NETWORK:-default}"`)
	v4, v6 := w.families()
	if v4 {
		w.ln("gcloud compute firewall-rules create portreeve --network=\"$NETWORK\" --direction=INGRESS --allow=%s --source-ranges=0.0.0.0/0 --target-tags=portreeve", gcpPorts(w.portsFor("ipv4")))
	}
	if v6 {
		w.ln("gcloud compute firewall-rules create portreeve-ipv6 --network=\"$NETWORK\" --direction=INGRESS --allow=%s --source-ranges=::/0 --target-tags=portreeve", gcpPorts(w.portsFor("ipv6")))
	}
}

func gcpPorts(rs []ports.PortRange) string {
	return "tcp:" + ports.JoinRanges(rs, "-", ",tcp:")
}

// quotedRanges writes ranges as a list of strings.
func quotedRanges(rs []ports.PortRange) string {
	return `"` + ports.JoinRanges(rs, "-", `", "`) + `"`
}

func gcpTerraform(w *writer) {
	w.header(
		"The rules hold for machines with the network tag portreeve; IPv4 and IPv6 sources need a rule each.",
		"Set ftp.passive.address to the external address: the machine itself has only the private one.",
		statefulNote)
	w.ln("variable \"portreeve_network\" {\n  type        = string\n  default     = \"default\"\n  description = \"VPC network of the machine that runs Portreeve\"\n}")
	rule := func(name, family, cidr string) {
		w.ln("\nresource \"google_compute_firewall\" %q {", strings.ReplaceAll(name, "-", "_"))
		w.ln("  name          = %q\n  network       = var.portreeve_network\n  direction     = \"INGRESS\"\n  source_ranges = [%q]\n  target_tags   = [\"portreeve\"]", name, cidr)
		w.ln("\n  allow {\n    protocol = \"tcp\"\n    ports    = [%s]\n  }\n}", quotedRanges(w.portsFor(family)))
	}
	v4, v6 := w.families()
	if v4 {
		rule("portreeve", "ipv4", "0.0.0.0/0")
	}
	if v6 {
		rule("portreeve-ipv6", "ipv6", "::/0")
	}
}

func azureCLI(w *writer) {
	w.header(
		"Run with the names in the environment:  RESOURCE_GROUP=my-group NSG=my-nsg sh FILE",
		"The priority must be free in the group and lower than that of any rule that denies.",
		"Set ftp.passive.address to the public address: the machine itself has only the private one.",
		statefulNote)
	w.ln(`: "${RESOURCE_GROUP:?set it to the resource group}" "${NSG:?set it to the network security group}"`)
	w.ln("az network nsg rule create --resource-group \"$RESOURCE_GROUP\" --nsg-name \"$NSG\" --name portreeve --priority \"${PRIORITY:-300}\" \\")
	w.ln("  --direction Inbound --access Allow --protocol Tcp --source-address-prefixes '*' --source-port-ranges '*' \\")
	w.ln("  --destination-address-prefixes '*' --destination-port-ranges %s", ports.JoinRanges(w.allPorts(), "-", " "))
}

func azureTerraform(w *writer) {
	w.header(
		"The priority must be free in the group and lower than that of any rule that denies.",
		"Set ftp.passive.address to the public address: the machine itself has only the private one.",
		statefulNote)
	w.ln("variable \"portreeve_resource_group_name\" {\n  type = string\n}\n\nvariable \"portreeve_network_security_group_name\" {\n  type = string\n}\n")
	w.ln("resource \"azurerm_network_security_rule\" \"portreeve\" {")
	w.ln("  name                        = \"portreeve\"\n  resource_group_name         = var.portreeve_resource_group_name\n  network_security_group_name = var.portreeve_network_security_group_name")
	w.ln("  priority                    = 300\n  direction                   = \"Inbound\"\n  access                      = \"Allow\"\n  protocol                    = \"Tcp\"")
	w.ln("  source_address_prefix       = \"*\"\n  source_port_range           = \"*\"\n  destination_address_prefix  = \"*\"\n  destination_port_ranges     = [%s]\n}", quotedRanges(w.allPorts()))
}
