// SPDX-License-Identifier: Apache-2.0

//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sessionfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// A symbolic link is refused, and a FIFO is not waited for.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// isOurs refuses a file to which somebody else has access.
func isOurs(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has the mode %04o: others have access to it, so make it 0600", path, mode)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return fmt.Errorf("%s belongs to the user %d, not to this process's %d", path, owner, os.Geteuid())
	}
	return nil
}

// lock waits until no other Update, in this process or in another, has the lock.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		f, err := lockFile(ctx, name)
		if err != nil {
			return nil, err
		}
		if isStill(f, name) {
			return func() { _ = f.Close() }, nil
		}
		_ = f.Close() // somebody removed it, and others may have made another one
	}
}

// isStill reports whether a file has still its name.
func isStill(f *os.File, name string) bool {
	a, err := f.Stat()
	b, nameErr := os.Lstat(name)
	return err == nil && nameErr == nil && os.SameFile(a, b)
}

func lockFile(ctx context.Context, name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|openFlags, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = isOurs(name, info)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			_ = f.Close()
			return nil, fmt.Errorf("%s is locked: %w", name, context.Cause(ctx))
		}
	}
}
