package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/pki"
)

const (
	day         = 24 * time.Hour
	caDays      = 3650
	certDays    = 365
	mostDays    = 36500
	defaultDir  = "qosctl-tls"
	authority   = "qosctl authority" // its name, with some digits behind
	tlsOverview = `Make an authority of your own, and the certificates that it signs: for the agents' network address, for people and programs that ask it, and,
if you like, for the agents among themselves (else these come from the cluster's key). It needs no agent, and is best kept off the nodes.

The authority is a directory: ca.crt, which agents and users get, and ca.key, which nobody else gets. What is there is never written over
without --force. Keys have mode 0600.

  qosctl tls init                                       # the authority
  qosctl tls issue node1 --node --ip 10.0.0.1           # an agent's; with its key to node1 as tls.cert_file and tls.key_file
  qosctl tls issue alice --operator                     # a person's: qosctl --agent https://node1:30000 --ca … --cert … --key …

To exchange the authority while everything runs:

  qosctl tls rotate                # a new one, which issues from now on; ca.crt has both: copy it to all agents and users first
  qosctl tls issue NAME … --force  # then each certificate anew, and copy it to where it is used
  qosctl tls rotate --finish       # ca.crt forgets the old one: copy it to all again

Agents read changed files within a minute, without being told.`
)

func newTLSCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tls",
		Short:   "Certificates for agents and their users: make an authority, issue, exchange",
		Long:    tlsOverview,
		Example: "  qosctl tls init --dir ~/qosctl-tls\n  qosctl tls issue team-a --tenant /team-a --dir ~/qosctl-tls",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unknown command %q of tls", args[0]), "`qosctl tls --help` lists them"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTLSInitCmd(a), newTLSIssueCmd(a), newTLSRotateCmd(a), newTLSShowCmd(a))
	return cmd
}

// tlsOpts are the flags that the commands have in common.
type tlsOpts struct {
	dir   string
	days  int
	force bool
}

func (o *tlsOpts) add(cmd *cobra.Command, days int, force string) {
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", defaultDir, "directory of the authority")
	f.IntVar(&o.days, "days", days, "days that it is valid for")
	f.BoolVar(&o.force, "force", false, force)
	must(cmd.MarkFlagDirname("dir"))
}

func (o *tlsOpts) life() (time.Duration, error) {
	if o.days < 1 || o.days > mostDays {
		return 0, &usageError{fmt.Errorf("--days must be between 1 and %d (got %d)", mostDays, o.days), ""}
	}
	return time.Duration(o.days) * day, nil
}

func newTLSInitCmd(a *app) *cobra.Command {
	var o tlsOpts
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Make an authority",
		Long:    "Make an authority: a directory with its certificate, ca.crt, and its key, ca.key. See `qosctl tls`.",
		Example: "  qosctl tls init\n  qosctl tls init --dir /etc/qosctl/tls --days 1825",
		Args:    args(cobra.NoArgs),
		RunE: run(func(_ *cobra.Command, _ []string) error {
			life, err := o.life()
			if err != nil {
				return err
			}
			d, err := pki.Init(o.dir, authority, life, time.Now(), o.force)
			if err != nil {
				return tlsError(err, o.dir)
			}
			_, err = fmt.Fprintf(a.out, "%s is made, valid until %s\nagents and users get %s; %s stays here, and secret\n", d.Authority.Cert.Subject.CommonName,
				d.Authority.Cert.NotAfter.Format(time.DateOnly), filepath.Join(o.dir, pki.CAFile), filepath.Join(o.dir, pki.CAKeyFile))
			return err
		}),
	}
	o.add(cmd, caDays, "replace an authority that is there: all that it has signed is worth nothing then")
	return cmd
}

type issueOpts struct {
	tlsOpts
	node, server, operator bool
	tenant, out            string
	dns, ips               []string
}

func newTLSIssueCmd(a *app) *cobra.Command {
	var o issueOpts
	cmd := &cobra.Command{
		Use:   "issue NAME --node|--server|--operator|--tenant TENANT",
		Short: "Issue a certificate: to an agent, or to who asks agents",
		Long: `Issue a certificate with a key of its own: NAME.crt and NAME.key. What it is for stands in it, and is given by one flag:

  --node      the agent of node NAME: for its network address (tls) and, if you like, for its peers (cluster.cert_file)
  --server    a network address alone: it needs --dns or --ip
  --operator  a client that may do everything; it has OU=qosctl-operator
  --tenant    a client that sees and changes a tenant's jobs alone; it has OU=qosctl-tenant and O=TENANT

NAME of a client stands in the audit log. A node is asked by NAME, and by what --dns and --ip say.`,
		Example: `  qosctl tls issue node1 --node --dns node1.example.org --ip 10.0.0.1
  qosctl tls issue alice --operator --days 90
  qosctl tls issue team-a --tenant /team-a --out team-a`,
		Args: args(cobra.ExactArgs(1)),
		RunE: run(func(_ *cobra.Command, args []string) error {
			return a.runTLSIssue(o, args[0])
		}),
	}
	o.add(cmd, certDays, "replace a certificate and a key that are there")
	f := cmd.Flags()
	f.BoolVar(&o.node, "node", false, "for the agent of node NAME")
	f.BoolVar(&o.server, "server", false, "for a network address")
	f.BoolVar(&o.operator, "operator", false, "for a client that may do everything")
	f.StringVar(&o.tenant, "tenant", "", "for a client with the jobs of a Marathon group, as /team-a, or of a Chronos owner")
	f.StringSliceVar(&o.dns, "dns", nil, "DNS names that a node or a server is asked by")
	f.StringSliceVar(&o.ips, "ip", nil, "addresses that a node or a server is asked by")
	f.StringVar(&o.out, "out", "", "directory for the two files, made if need be (default: the authority's)")
	must(cmd.MarkFlagDirname("out"))
	return cmd
}

// request is what the flags ask for.
func (o issueOpts) request(name string) (pki.Request, error) {
	life, err := o.life()
	if err != nil {
		return pki.Request{}, err
	}
	r := pki.Request{Name: name, Tenant: o.tenant, DNS: o.dns, Life: life}
	given := 0
	for role, set := range map[pki.Role]bool{pki.Node: o.node, pki.Server: o.server, pki.Operator: o.operator, pki.Tenant: o.tenant != ""} {
		if set {
			r.Role = role
			given++
		}
	}
	if given != 1 {
		return r, &usageError{errors.New("a certificate is for a node, a server, an operator or a tenant"), "give one of --node, --server, --operator and --tenant"}
	}
	for _, text := range o.ips {
		ip := net.ParseIP(text)
		if ip == nil {
			return r, &usageError{fmt.Errorf("--ip: %q is no address", text), ""}
		}
		r.IPs = append(r.IPs, ip)
	}
	if r.Role == pki.Node && net.ParseIP(name) == nil && !strings.Contains(name, "_") {
		r.DNS = append([]string{name}, r.DNS...)
	}
	if err := r.Validate(); err != nil {
		return r, &exitStatus{exitInvalid, err}
	}
	return r, nil
}

func (a *app) runTLSIssue(o issueOpts, name string) error {
	r, err := o.request(name)
	if err != nil {
		return err
	}
	d, err := pki.Open(o.dir)
	if err != nil {
		return tlsError(err, o.dir)
	}
	p, err := d.Issue(r, o.out, time.Now(), o.force)
	if err != nil {
		return tlsError(err, o.dir)
	}
	until := p.Cert.NotAfter.Format(time.DateOnly)
	if p.Shortened() {
		until += ", as long as the authority"
	}
	file := filepath.Join(cmp.Or(o.out, o.dir), name)
	_, err = fmt.Fprintf(a.out, "%s.crt and %s.key: %s, valid until %s, serial number %s\n", file, file, roleText(r), until, pki.Serial(p.Cert))
	if len(d.Others) > 0 && err == nil {
		_, err = fmt.Fprintf(a.out, "the authority is being exchanged: who is to trust this needs the present %s\n", filepath.Join(o.dir, pki.CAFile))
	}
	return err
}

func roleText(r pki.Request) string {
	switch r.Role {
	case pki.Tenant:
		return "tenant " + r.Tenant
	case pki.Node:
		return "node " + r.Name
	}
	return string(r.Role)
}

func newTLSRotateCmd(a *app) *cobra.Command {
	var (
		o      tlsOpts
		finish bool
	)
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Exchange the authority; --finish forgets the old one",
		Long: `Make a new authority, which issues from now on; the old one is trusted until --finish. See ` + "`qosctl tls`" + ` for the order. Finishing is refused
while certificates that the old one has issued are in the directory.`,
		Example: "  qosctl tls rotate\n  qosctl tls rotate --finish",
		Args:    args(cobra.NoArgs),
		RunE: run(func(_ *cobra.Command, _ []string) error {
			return a.runTLSRotate(o, finish)
		}),
	}
	o.add(cmd, caDays, "with --finish: although certificates of the old authority are there")
	cmd.Flags().BoolVar(&finish, "finish", false, "forget the old authority")
	return cmd
}

func (a *app) runTLSRotate(o tlsOpts, finish bool) error {
	life, err := o.life()
	if err != nil {
		return err
	}
	d, err := pki.Open(o.dir)
	if err != nil {
		return tlsError(err, o.dir)
	}
	ca := filepath.Join(o.dir, pki.CAFile)
	if finish {
		if err := d.Finish(time.Now(), o.force); err != nil {
			return tlsError(err, o.dir)
		}
		_, err = fmt.Fprintf(a.out, "the old authority is forgotten: copy %s to all agents and users\n", ca)
		return err
	}
	if err := d.Rotate(authority, life, time.Now()); err != nil {
		return tlsError(err, o.dir)
	}
	_, err = fmt.Fprintf(a.out, "%s issues from now on; %s has the old one too\ncopy it to all agents and users before the first certificate that is issued now, then issue all anew, then: qosctl tls rotate --finish\n",
		d.Authority.Cert.Subject.CommonName, ca)
	return err
}

func newTLSShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show FILE...",
		Short:   "Show what certificates are for, and until when",
		Example: "  qosctl tls show qosctl-tls/*.crt",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: run(func(_ *cobra.Command, args []string) error {
			rows := []string{row("FILE", "ROLE", "NAME", "UNTIL", "ISSUER", "SERIAL")}
			for _, file := range args {
				list, err := pki.ReadCertificates(file)
				if err != nil {
					return err
				}
				for _, c := range list {
					role := string(pki.RoleOf(c))
					if c.IsCA {
						role = "authority"
					}
					if h, err := pki.HolderOf(c); err == nil && h.Tenant != "" {
						role += " " + h.Tenant
					}
					rows = append(rows, row(filepath.Base(file), cmp.Or(role, "-"), cmp.Or(c.Subject.CommonName, "-"), c.NotAfter.Format(time.DateOnly), c.Issuer.CommonName, pki.Serial(c)))
				}
			}
			return table(a.out, rows...)
		}),
	}
}

// tlsError gives an error of the authority's directory its exit code and a remedy.
func tlsError(err error, dir string) error {
	inUse, isInUse := errors.AsType[*pki.InUseError](err)
	switch {
	case isInUse:
		return &exitStatus{exitConflict, withHint(err, fmt.Sprintf("issue %s anew (--force) and copy them to where they are used, or remove what nobody uses", strings.Join(inUse.Names, ", ")))}
	case errors.Is(err, pki.ErrRotating):
		return &exitStatus{exitConflict, withHint(err, "`qosctl tls rotate --finish` ends that, when every certificate is of the new one")}
	case errors.Is(err, pki.ErrNotRotating):
		return &exitStatus{exitConflict, withHint(err, "`qosctl tls rotate` begins it")}
	case errors.Is(err, fs.ErrExist):
		return &exitStatus{exitConflict, withHint(err, "--force replaces it")}
	case errors.Is(err, fs.ErrNotExist):
		return withHint(err, "`qosctl tls init` makes an authority; --dir says where it is")
	case errors.Is(err, os.ErrPermission):
		return &exitStatus{exitForbidden, err}
	}
	return fmt.Errorf("authority in %s: %w", dir, err)
}
