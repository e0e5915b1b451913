package testkit

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Nginx runs nginx with its RTMP module until the test ends. It takes streams of the application "live" and records each into a file
// of the folder, STREAM*.flv.
func Nginx(tb testing.TB) (addr, folder string) {
	tb.Helper()
	addr, folder = FreeTCP(tb), tb.TempDir()
	if err := os.Chmod(folder, 0o777); err != nil {
		tb.Fatal(err)
	}
	conf := filepath.Join(folder, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
events {}
rtmp { server { listen %[2]s; application live { live on; record all; record_path %[1]s; } } }
`, folder, addr)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
	StartCmd(tb, exec.Command("/usr/sbin/nginx", "-c", conf, "-p", folder))
	Eventually(tb, 10*time.Second, "nginx listens", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr, folder
}
