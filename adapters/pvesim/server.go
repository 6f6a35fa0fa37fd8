package pvesim

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// Listen says where a cluster is served.
type Listen struct {
	// Addr is the first node's address. Port 0 takes any free one.
	Addr string
	// EachNode opens one listener per node: on the ports that follow Addr's, or
	// on free ones. Otherwise only the first node listens, and proxies.
	EachNode bool
	// Plain serves HTTP without TLS.
	Plain bool
	// Within opens no socket: connections are made by [Server.Dial], within the
	// process, and work inside a testing/synctest bubble. Addr is then only a
	// name, with a port that is not 0.
	Within bool
}

// Server is a cluster's listeners. Close it to end them.
type Server struct {
	// URL is the first node's base, without a trailing slash; URLs has it for
	// each node that listens.
	URL  string
	URLs map[string]string
	// CAPEM is the certificate authority made for this server; empty for plain
	// HTTP. Fingerprints has the SHA-256 of each node's certificate, upper-case hex
	// pairs with colons, as Proxmox VE shows it.
	CAPEM        []byte
	Fingerprints map[string]string

	nodes []*nodeServer
	pipes *pipes // nil: sockets
}

// Dial connects to a server that was started with [Listen.Within], by the host
// and port of one of its URLs.
func (sv *Server) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if sv.pipes == nil {
		return nil, fmt.Errorf("dial %s: the simulated cluster is served by sockets", addr)
	}
	return sv.pipes.dial(ctx, network, addr)
}

// Start serves the cluster on the network until [Server.Close]. With TLS it
// makes a certificate authority and one certificate per node.
func (s *Sim) Start(l Listen) (*Server, error) {
	host, port, err := net.SplitHostPort(l.Addr)
	if err != nil {
		return nil, fmt.Errorf("serve simulated cluster at %q: %w", l.Addr, err)
	}
	names := []string{s.order[0].name}
	if l.EachNode {
		names = names[:0]
		for _, n := range s.order {
			names = append(names, n.name)
		}
	}
	sv := &Server{URLs: map[string]string{}, Fingerprints: map[string]string{}}
	var ca *authority
	if !l.Plain {
		if ca, err = newAuthority(); err != nil {
			return nil, err
		}
		sv.CAPEM = ca.pem
	}
	base, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, fmt.Errorf("serve simulated cluster at %q: %w", l.Addr, err)
	}
	if l.Within {
		if base == 0 {
			return nil, fmt.Errorf("serve simulated cluster at %q: within the process the port must be given", l.Addr)
		}
		sv.pipes = newPipes()
	}
	for i, name := range names {
		at := base
		if base != 0 {
			at += i
		}
		ns := &nodeServer{addr: net.JoinHostPort(host, itoa(at)), handler: s.NodeHandler(name), pipes: sv.pipes}
		if ca != nil {
			if err := ca.certify(ns, name, host); err != nil {
				_ = sv.Close()
				return nil, err
			}
			sv.Fingerprints[name] = ns.print
		}
		if err := ns.open(); err != nil {
			_ = sv.Close()
			return nil, fmt.Errorf("serve node %s at %s: %w", name, ns.addr, err)
		}
		sv.nodes = append(sv.nodes, ns)
		scheme := "https://"
		if l.Plain {
			scheme = "http://"
		}
		sv.URLs[name] = scheme + ns.addr
		s.do(func() {
			n := s.nodes[name]
			n.servers = append(n.servers, ns)
			if ns.print != "" {
				n.print = ns.print
			}
		})
	}
	sv.URL = sv.URLs[names[0]]
	return sv, nil
}

// Close ends the listeners and breaks all connections. It returns when no
// handler is running any more: their callers are gone, so none waits for a reply.
// It always returns nil.
func (sv *Server) Close() error {
	for _, ns := range sv.nodes {
		ns.shut()
		ns.busy.wait()
	}
	return nil
}

// authority signs the nodes' certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// The certificates outlive any clock a test may inject.
var (
	certFrom  = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	certUntil = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
)

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of simulated certificate authority: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Proxmox Virtual Environment (simulated)"},
		NotBefore: certFrom, NotAfter: certUntil, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of simulated authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate of simulated authority: %w", err)
	}
	return &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

func (a *authority) certify(ns *nodeServer, name, host string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key of node %s: %w", name, err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name + ".sim"},
		NotBefore: certFrom, NotAfter: certUntil, DNSNames: []string{name, name + ".sim", "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
	} else if host != "" {
		tmpl.DNSNames = append(tmpl.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("make certificate of node %s: %w", name, err)
	}
	// HTTP/1 only: the real server knows no other, and errors are written by hand.
	ns.tls = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
	sum := sha256.Sum256(der)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	ns.print = strings.Join(pairs, ":")
	return nil
}
