package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options say what boots and what runs.
type Options struct {
	// Cmd is the program, absolute or on PATH, and its arguments.
	Cmd []string
	// Command, where set, returns Cmd once the link's addresses are known (invalid ones without Network).
	Command func(host, guest netip.Addr) []string
	// Dir is the guest's working directory, by default the caller's.
	Dir string
	// Env is added to the guest's small environment (PATH, HOME, TMPDIR, GANTRY_VM_GUEST, and GANTRY_VM_HOST with Network).
	Env []string
	// Vivid holds options of the vivid driver: "num_inputs=1 input_types=3". Empty: one node, VividNode.
	Vivid string
	// Kernel holds further kernel parameters.
	Kernel []string
	// Write names host directories that the guest may write to. They must exist and stand apart from each other.
	Write []string
	// Network links the guest to the host.
	Network bool
	// TimeTravel makes the guest's computing take no time of its clock, and its waiting none of ours. Results then do not
	// depend on the load of the machine; they prove logic and order, never speed. Not for Network.
	TimeTravel bool
	// Memory is the guest's, in MiB; 0 is 512. It comes from /dev/shm, page by page as it is used.
	Memory int
	// Stdout and Stderr receive the command's output; nil discards it.
	Stdout, Stderr io.Writer
}

// A Machine is a running guest.
type Machine struct {
	// Host and Guest are the two ends of the link; invalid without Options.Network.
	Host, Guest netip.Addr

	job    string // the run's own directory: job script, status, kernel log
	orders *os.File
	pid    int
	done   chan struct{}
	err    error
	stop   chan struct{} // closed by Stop
	once   sync.Once
}

// VividNode is the capture node of a machine whose Options.Vivid is empty. Its input 0 is a webcam (320x180 to 3840x2160), its
// input 1 is HDMI.
const VividNode = "/dev/video20"

const defaultVivid = "n_devs=1 node_types=0x1 num_inputs=2 input_types=0xc vid_cap_nr=20"

// grace is how long a command that was told to stop may take.
const grace = 15 * time.Second

// An ExitError is the status that the guest's command ended with; 128 and above: by a signal.
type ExitError int

func (e ExitError) Error() string {
	return "the command in the VM exited with status " + strconv.Itoa(int(e))
}

// Start builds the kernel if need be, boots it and returns while Options.Cmd runs in it. When ctx ends the command gets
// SIGTERM, and 15 seconds later the machine is switched off. The caller calls Wait or Stop.
func Start(ctx context.Context, o Options) (*Machine, error) {
	kernel, err := Build(ctx)
	if err != nil {
		return nil, err
	}
	m := &Machine{done: make(chan struct{}), stop: make(chan struct{})}
	if m.job, err = os.MkdirTemp("", "gantry-vm-"); err != nil {
		return nil, err
	}
	b := boot{machine: m, options: o, kernel: kernel}
	if err := b.start(); err != nil {
		b.close()
		os.RemoveAll(m.job)
		return nil, fmt.Errorf("start the VM: %w", err)
	}
	go m.watch(ctx)
	return m, nil
}

// Wait returns when the machine is off: nil, an ExitError, or what went wrong with the machine itself, with the kernel's words.
func (m *Machine) Wait() error {
	<-m.done
	return m.err
}

// Stop ends the command with SIGTERM, after 15 seconds the machine, and waits as Wait does.
func (m *Machine) Stop() error {
	m.once.Do(func() { close(m.stop) })
	return m.Wait()
}

// Done is closed when the machine is off.
func (m *Machine) Done() <-chan struct{} { return m.done }

// watch stops the machine when ctx ends or Stop is called.
func (m *Machine) watch(ctx context.Context) {
	select {
	case <-m.done:
		return
	case <-ctx.Done():
	case <-m.stop:
	}
	// The guest hears an order only when it comes while somebody listens there, so it is repeated while the guest boots.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	last := time.NewTimer(grace)
	defer last.Stop()
	for {
		m.order()
		select {
		case <-m.done:
			return
		case <-again.C:
		case <-last.C:
			syscall.Kill(-m.pid, syscall.SIGKILL) // the machine and its helper processes; not waited for yet, so the id is ours
			<-m.done
			return
		}
	}
}

// order tells the guest to stop its command.
func (m *Machine) order() {
	m.orders.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)) // nobody may be reading any more
	m.orders.WriteString("TERM\n")
}

// boot is what is needed while a machine starts, and until it is off.
type boot struct {
	machine *Machine
	options Options
	kernel  string
	link    *link
	log     *os.File
	files   []*os.File // the child's 3, 4, …
	copies  sync.WaitGroup
	output  sync.Mutex
}

// locked serialises the command's output and errors, which may go to one writer.
type locked struct {
	io.Writer
	mu *sync.Mutex
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Writer.Write(p)
}

func (b *boot) start() error {
	m := b.machine
	if b.options.Network {
		l, err := newLink()
		if err != nil {
			return err
		}
		b.link, m.Host, m.Guest = l, l.host, l.guest
	}
	if err := b.writeJob(); err != nil {
		return err
	}
	cmd, err := b.command()
	if err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		// The parent-death signal follows the thread that forks, so this goroutine keeps it to the end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			m.pid = cmd.Process.Pid
			if b.link != nil {
				err = syscall.SetNonblock(int(b.link.file.Fd()), true) // exec makes descriptors blocking
			}
			for _, f := range b.files {
				f.Close()
			}
			b.files = nil
		}
		started <- err
		if m.pid == 0 {
			return
		}
		waited := cmd.Wait()
		syscall.Kill(-m.pid, syscall.SIGKILL) // helper processes that outlived it
		b.copies.Wait()
		m.err = b.outcome(waited)
		b.close()
		os.RemoveAll(m.job)
		close(m.done)
	}()
	return <-started
}

// command prepares the process: its files 3 and 4 are the guest's output and errors, 5 our orders, 6 the tap device.
func (b *boot) command() (*exec.Cmd, error) {
	m, o := b.machine, b.options
	dir, err := scripts()
	if err != nil {
		return nil, err
	}
	memory, vivid := o.Memory, o.Vivid
	if memory == 0 {
		memory = 512
	}
	if vivid == "" {
		vivid = defaultVivid
	}
	args := []string{
		"mem=" + strconv.Itoa(memory) + "M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
		"init=" + filepath.Join(dir, "init"), "gantry.job=" + m.job, "uml_dir=" + m.job, "umid=vm",
		"con=null", "con0=null,fd:1", "con1=null,fd:3", "con2=null,fd:4", "con3=fd:5,null", "panic=-1", "quiet",
		"rng_core.default_quality=1000", // trust the host's random numbers
	}
	for opt := range strings.FieldsSeq(vivid) {
		args = append(args, "vivid."+opt)
	}
	if o.TimeTravel {
		args = append(args, "time-travel=inf-cpu")
	}
	for _, w := range []io.Writer{o.Stdout, o.Stderr} {
		if w == nil {
			w = io.Discard
		}
		f, err := b.copyTo(&locked{Writer: w, mu: &b.output})
		if err != nil {
			return nil, err
		}
		b.files = append(b.files, f)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	b.files, m.orders = append(b.files, r), w
	files := b.files
	if b.link != nil {
		files = append(files[:len(files):len(files)], b.link.file)
		args = append(args, "vec0:transport=fd,fd=6,vec=0", "gantry.address="+b.link.guest.String()+"/30")
	}
	args = append(args, o.Kernel...)
	if b.log, err = os.Create(filepath.Join(m.job, "log")); err != nil {
		return nil, err
	}
	c := exec.Command(b.kernel, args...)
	c.Env = []string{"TMPDIR=/dev/shm", "PATH=" + os.Getenv("PATH"), "HOME=" + m.job}
	c.Stdout, c.Stderr, c.ExtraFiles = b.log, b.log, files
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		// The machine is several processes. In a namespace of their own they end with the first, whoever ends that.
		c.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	}
	return c, nil
}

// copyTo returns the writing end of a pipe whose content goes to w.
func (b *boot) copyTo(w io.Writer) (*os.File, error) {
	r, f, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	b.copies.Go(func() {
		io.Copy(w, r)
		r.Close()
	})
	return f, nil
}

// writeJob writes what scripts/vm/init reads.
func (b *boot) writeJob() error {
	o, m := b.options, b.machine
	argv := o.Cmd
	if o.Command != nil {
		argv = o.Command(m.Host, m.Guest)
	}
	if len(argv) == 0 {
		return errors.New("no command to run")
	}
	dir := o.Dir
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return err
		}
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/dev/shm", "TMPDIR=/dev/shm", guestEnv + "=1"}
	if m.Host.IsValid() {
		env = append(env, "GANTRY_VM_HOST="+m.Host.String())
	}
	var script strings.Builder
	fmt.Fprintf(&script, "cd %s || exit 125\n", quote(dir))
	for _, kv := range append(env, o.Env...) {
		k, v, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&script, "export %s=%s\n", k, quote(v))
	}
	script.WriteString("exec")
	for _, a := range argv {
		script.WriteString(" " + quote(a))
	}
	script.WriteString("\n")
	if err := os.WriteFile(filepath.Join(m.job, "run"), []byte(script.String()), 0o600); err != nil {
		return err
	}
	var write strings.Builder
	for _, d := range o.Write {
		write.WriteString(d + "\n")
	}
	return os.WriteFile(filepath.Join(m.job, "write"), []byte(write.String()), 0o600)
}

// outcome tells how the run went: the command's status if it got that far, else the kernel's last words.
func (b *boot) outcome(waited error) error {
	status, err := os.ReadFile(filepath.Join(b.machine.job, "status"))
	if err == nil {
		code, err := strconv.Atoi(strings.TrimSpace(string(status)))
		if err == nil && code != 0 {
			return ExitError(code)
		}
		return err
	}
	log, _ := os.ReadFile(filepath.Join(b.machine.job, "log"))
	return fmt.Errorf("the VM ended without running its command to the end (%v): %s", waited, tail(string(log), 2000))
}

func (b *boot) close() {
	if b.link != nil {
		b.link.file.Close()
	}
	if b.log != nil {
		b.log.Close()
	}
	for _, f := range b.files {
		f.Close()
	}
	b.files = nil
	if b.machine.orders != nil {
		b.machine.orders.Close()
	}
	b.copies.Wait()
}

// quote makes s one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// tail returns at most the last n bytes of s.
func tail(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) > n {
		s = "… " + s[len(s)-n:]
	}
	return s
}
