package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

// privileged is whose rights it takes to change the machine's service.
const privileged = "an administrator's rights"

const (
	startHint = 30 * time.Second // how long the manager is to wait for the next word
	stopHint  = 40 * time.Second // what was sent is waited for
	sayEvery  = 2 * time.Second
)

// Run runs main until the manager or ctx stops it, and returns main's error. The
// manager is told that the service runs once main says so, and, where main ends
// by itself, the exit code that code gives its error: that makes it a failure to
// the manager, which then starts the service again.
//
// Whether the manager started this process is found out by asking it. It is asked
// only where the parent has its name: asked from a console it may take seconds to
// say no. What kardianos/service and x/sys go by besides, the parent's session, is
// not so on every machine that runs Windows' programs.
func Run(ctx context.Context, name string, code func(error) int, main func(context.Context, *Notifier) error) error {
	if !strings.EqualFold(parent(), "services.exe") {
		return main(ctx, NewNotifier())
	}
	h := &handler{ctx: ctx, main: main, code: code}
	err := svc.Run(name, h)
	switch {
	case errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT):
		return main(ctx, NewNotifier()) // a console
	case err != nil:
		return fmt.Errorf("talk to the service manager: %w", err)
	}
	return h.err
}

// parent is the program of the process that started this one, "" where it has
// ended.
func parent() string {
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return ""
	}
	defer windows.CloseHandle(all)
	names, of := map[uint32]string{}, map[uint32]uint32{}
	p := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(all, &p); err == nil; err = windows.Process32Next(all, &p) {
		names[p.ProcessID], of[p.ProcessID] = windows.UTF16ToString(p.ExeFile[:]), p.ParentProcessID
	}
	return names[of[windows.GetCurrentProcessId()]]
}

// handler answers the manager while main runs.
type handler struct {
	ctx  context.Context
	main func(context.Context, *Notifier) error
	code func(error) int
	err  error
}

// Execute implements svc.Handler.
func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, changes chan<- svc.Status) (ownCode bool, exitCode uint32) {
	const stops = svc.AcceptStop | svc.AcceptShutdown
	now := svc.Status{State: svc.StartPending, WaitHint: uint32(startHint.Milliseconds())}
	changes <- now
	ctx, stop := context.WithCancel(h.ctx)
	defer stop()
	ready, ended := make(chan struct{}), make(chan error, 1)
	n := &Notifier{ready: sync.OnceFunc(func() { close(ready) })}
	go func() { ended <- h.main(ctx, n) }()
	say := time.NewTicker(sayEvery)
	defer say.Stop()
	for {
		select {
		case h.err = <-ended:
			if ctx.Err() != nil && h.err == nil {
				return false, 0
			}
			return true, uint32(h.code(h.err))
		case <-ready:
			ready = nil
			now = svc.Status{State: svc.Running, Accepts: stops}
		case r := <-requests:
			switch r.Cmd {
			case svc.Stop, svc.Shutdown:
				stop()
				ready, now = nil, svc.Status{State: svc.StopPending, WaitHint: uint32(stopHint.Milliseconds())}
			case svc.Interrogate:
			default:
				continue
			}
		case <-say.C:
			if now.State == svc.Running {
				continue
			}
			now.CheckPoint++ // it is still at it
		}
		changes <- now
	}
}
