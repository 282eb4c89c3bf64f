// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"sslctx"
	"sslctx/internal/testcert"
	"sslctx/internal/tlstest"
)

// An ftpServer says how an FTP server is started that wants data connections to resume the session of the control
// connection.
type ftpServer struct {
	program string
	config  string // with the folder, the port, and the name of the user who runs the test
	args    func(config string) []string
	login   []string
}

var ftpServers = []ftpServer{
	{"vsftpd", `listen=YES
listen_address=127.0.0.1
listen_port=%[2]s
background=NO
seccomp_sandbox=NO
anonymous_enable=YES
no_anon_password=YES
anon_root=%[1]s/files
ftp_username=daemon
nopriv_user=nobody
secure_chroot_dir=%[1]s/empty
ssl_enable=YES
allow_anon_ssl=YES
force_anon_data_ssl=YES
force_anon_logins_ssl=YES
require_ssl_reuse=YES
ssl_ciphers=HIGH
rsa_cert_file=%[1]s/cert.pem
rsa_private_key_file=%[1]s/key.pem
`, func(config string) []string { return []string{config} }, []string{"USER anonymous"}},
	{"proftpd", `ServerType standalone
DefaultAddress 127.0.0.1
Port %[2]s
SocketBindTight on
UseReverseDNS off
ModulePath /usr/lib/proftpd
LoadModule mod_tls.c
PidFile %[1]s/pid
ScoreboardFile %[1]s/scoreboard
SystemLog %[1]s/log
WtmpLog off
UseFtpUsers off
AuthOrder mod_auth_unix.c
User nobody
Group nogroup
<Anonymous %[1]s/files>
	User nobody
	Group nogroup
	UserAlias anonymous nobody
	AnonRequirePassword off
	RequireValidShell off
</Anonymous>
TLSEngine on
TLSRequired on
TLSECCertificateFile %[1]s/cert.pem
TLSECCertificateKeyFile %[1]s/key.pem
TLSVerifyClient off
`, func(config string) []string { return []string{"-n", "-q", "-c", config} }, []string{"USER anonymous", "PASS me"}},
}

// start starts the server, until the test ends.
func (s *ftpServer) start(t *testing.T, pair testcert.Pair) (addr string) {
	t.Helper()
	path, err := exec.LookPath(s.program)
	if err != nil {
		path = "/usr/sbin/" + s.program
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip(s.program + " is not installed")
	}
	if me, err := user.Current(); err != nil || me.Uid != "0" {
		t.Skip(s.program + " is started by root")
	}
	dir, err := os.MkdirTemp("/tmp", "ftp") // whose parents everybody can read
	tlstest.Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	addr = tlstest.FreeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	tlstest.Must(t, errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "files"), 0o755), os.Mkdir(filepath.Join(dir, "empty"), 0o755),
		os.WriteFile(filepath.Join(dir, "files", "hello"), []byte("hello from a file"), 0o644),
		os.WriteFile(filepath.Join(dir, "cert.pem"), pair.Cert, 0o600), os.WriteFile(filepath.Join(dir, "key.pem"), pair.Key, 0o600),
		os.WriteFile(filepath.Join(dir, "config"), fmt.Appendf(nil, s.config, dir, port), 0o600)))
	cmd := exec.Command(path, s.args(filepath.Join(dir, "config"))...)
	tlstest.StartServer(t, cmd, addr)
	return addr
}

// An ftpClient is a control connection.
type ftpClient struct {
	t    *testing.T
	conn net.Conn
	text *textproto.Reader
}

func (c *ftpClient) use(conn net.Conn) {
	c.conn, c.text = conn, textproto.NewReader(bufio.NewReader(conn))
}

// ask sends a command, and returns the text of its answer, whose code must begin with a digit.
func (c *ftpClient) ask(command string, class int) string {
	c.t.Helper()
	if command != "" {
		_, err := io.WriteString(c.conn, command+"\r\n")
		tlstest.Must(c.t, err)
	}
	code, text, err := c.text.ReadResponse(0)
	if err != nil || code/100 != class {
		c.t.Fatalf("the answer to %q is %d %s, %v", command, code, text, err)
	}
	return text
}

// TestFTPServers: FTP servers that demand it accept data connections, which resume the session of the control connection
// by a SessionCache and SessionAddr.
func TestFTPServers(t *testing.T) {
	for _, s := range ftpServers {
		t.Run(s.program, func(t *testing.T) {
			for _, v := range tlstest.Versions {
				pair := tlstest.SelfSigned(t)
				addr := s.start(t, pair)
				c := tlstest.NewContext(t, sslctx.TLSClientMethod)
				tlstest.Must(t, errors.Join(c.TrustCertificates(pair.Cert), c.SetMaxProtoVersion(v)))
				cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{TicketsPerServer: 32})
				tlstest.Must(t, err)
				d := &sslctx.Dialer{Context: c, ServerName: "localhost", SessionCache: cache, SessionAddr: addr}
				raw, err := net.Dial("tcp", addr)
				tlstest.Must(t, err)
				client := &ftpClient{t: t}
				client.use(raw)
				client.ask("", 2)
				client.ask("AUTH TLS", 2)
				control, err := d.ClientContext(t.Context(), raw, addr)
				tlstest.Must(t, err)
				defer control.Close()
				client.use(control)
				for i, command := range s.login {
					client.ask(command, map[bool]int{true: 2, false: 3}[i == len(s.login)-1])
				}
				client.ask("PBSZ 0", 2)
				client.ask("PROT P", 2)
				client.ask("TYPE I", 2)
				for i := range 5 {
					var port int
					text := client.ask("EPSV", 2)
					_, err := fmt.Sscanf(text[strings.Index(text, "|||"):], "|||%d|", &port)
					tlstest.Must(t, err)
					raw, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
					tlstest.Must(t, err)
					_, err = io.WriteString(control, "RETR hello\r\n")
					tlstest.Must(t, err)
					client.ask("", 1)
					data, err := d.ClientContext(context.Background(), raw, addr)
					tlstest.Must(t, err)
					got, err := io.ReadAll(data)
					if string(got) != "hello from a file" || err != nil && err != io.ErrUnexpectedEOF || !data.SessionReused() {
						t.Errorf("%v, transfer %d: %q, %v, resumed %v", control.Version(), i, got, err, data.SessionReused())
					}
					_ = data.Close()
					client.ask("", 2)
				}
			}
		})
	}
}
