// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package sslhttp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
)

// The numbers of SOCKS 5: RFC 1928, and RFC 1929 for names with passwords.
const (
	socksVersion    = 5
	socksNoAuth     = 0
	socksPassword   = 2
	socksPasswordV1 = 1
	socksConnectCmd = 1
	socksIPv4       = 1
	socksName       = 3
	socksIPv6       = 4
	socksSucceeded  = 0
	socksMaxText    = 255 // bytes of a name, a user or a password
)

var socksFailures = []string{1: "general failure", 2: "not allowed", 3: "network unreachable", 4: "host unreachable",
	5: "connection refused", 6: "TTL expired", 7: "command not supported", 8: "address type not supported"}

// socksConnect makes a SOCKS proxy connect to addr. The proxy looks up names.
func socksConnect(c net.Conn, user *url.Userinfo, addr string) error {
	request, err := socksRequest(addr)
	if err != nil {
		return err
	}
	if err := socksLogin(c, user); err != nil {
		return fmt.Errorf("socks: %w", err)
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	return socksReply(c)
}

func socksRequest(addr string) ([]byte, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("socks: the port is %q", p)
	}
	b := []byte{socksVersion, socksConnectCmd, 0}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Zone() != "":
		return nil, fmt.Errorf("socks: the address %q has a zone, which a proxy cannot know", host)
	case err == nil && ip.Is4():
		b = append(append(b, socksIPv4), ip.AsSlice()...)
	case err == nil:
		b = append(append(b, socksIPv6), ip.AsSlice()...)
	case len(host) > socksMaxText:
		return nil, errors.New("socks: the host's name is longer than 255 bytes")
	default:
		b = append(append(b, socksName, byte(len(host))), host...)
	}
	return append(b, byte(port>>8), byte(port)), nil
}

// socksLogin agrees on a method of login, and logs in.
func socksLogin(c net.Conn, user *url.Userinfo) error {
	hello := []byte{socksVersion, 1, socksNoAuth}
	if user != nil {
		hello = []byte{socksVersion, 2, socksNoAuth, socksPassword}
	}
	if _, err := c.Write(hello); err != nil {
		return err
	}
	var answer [2]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	switch {
	case answer[0] != socksVersion:
		return fmt.Errorf("the proxy speaks version %d", answer[0])
	case answer[1] == socksNoAuth:
		return nil
	case answer[1] == socksPassword && user != nil:
		return socksSendPassword(c, user)
	}
	return fmt.Errorf("the proxy wants to be logged in to by method %d, which is not supported or has no user in the proxy's URL", answer[1])
}

func socksSendPassword(c net.Conn, user *url.Userinfo) error {
	name := user.Username()
	password, _ := user.Password()
	if name == "" || len(name) > socksMaxText || len(password) > socksMaxText {
		return errors.New("the user or the password is empty or longer than 255 bytes")
	}
	b := append([]byte{socksPasswordV1, byte(len(name))}, name...)
	b = append(append(b, byte(len(password))), password...)
	if _, err := c.Write(b); err != nil {
		return err
	}
	var answer [2]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	if answer[0] != socksPasswordV1 || answer[1] != socksSucceeded {
		return errors.New("the proxy refuses the user or the password")
	}
	return nil
}

// socksReply reads the answer, and no byte after it.
func socksReply(c net.Conn) error {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return fmt.Errorf("socks: %w", err)
	}
	switch code := int(head[1]); {
	case head[0] != socksVersion:
		return fmt.Errorf("socks: the proxy speaks version %d", head[0])
	case code != socksSucceeded && code < len(socksFailures):
		return errors.New("socks: " + socksFailures[code])
	case code != socksSucceeded:
		return fmt.Errorf("socks: the proxy answers %d", code)
	}
	length, err := socksAddrLen(c, head[3])
	if err == nil {
		_, err = io.CopyN(io.Discard, c, int64(length)+2) // the port
	}
	if err != nil {
		return fmt.Errorf("socks: %w", err)
	}
	return nil
}

// socksAddrLen returns the length of the address in an answer, without a length byte before it.
func socksAddrLen(c net.Conn, kind byte) (int, error) {
	switch kind {
	case socksIPv4:
		return net.IPv4len, nil
	case socksIPv6:
		return net.IPv6len, nil
	case socksName:
		var n [1]byte
		_, err := io.ReadFull(c, n[:])
		return int(n[0]), err
	}
	return 0, fmt.Errorf("the proxy's address is of type %d", kind)
}
