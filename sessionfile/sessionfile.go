// SPDX-License-Identifier: Apache-2.0

// Package sessionfile keeps the sessions of a [sslctx.ClientSessionCache] in a file, so that a program
// resumes the sessions of its last run, and several processes share them:
//
//	file, err := sessionfile.New(path, sessionfile.Options{})
//	cache, err := sslctx.NewClientSessionCache(sslctx.ClientSessionCacheConfig{Store: file})
//	dialer := &sslctx.Dialer{Context: client, SessionCache: cache}
//
// The file holds the secrets of connections. Whoever can read it can decrypt TLS 1.2 connections that
// resume its sessions. Whoever can write it can take the place of any server. With Options.Key the file
// is encrypted and authenticated: then that takes the key. Only the owner of the process may have access
// to the file: New and Update refuse any other.
//
// A file that is torn, or that somebody else wrote, is one without sessions. It is for programs with
// few servers, since each change writes the whole file.
package sessionfile

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Options configure a [File]. The zero value has the defaults.
type Options struct {
	// Key, if it is set, encrypts and authenticates the file, by AES-256-GCM: 32 random bytes. Another
	// key finds no sessions, and its first change replaces the file. An old copy of the file, put back by
	// somebody who can write its folder, is not seen: its sessions are offered again.
	Key []byte

	// MaxBytes is how large the file may grow. The sessions of the server that was used longest ago, to the
	// minute, are dropped first. 0 is 1 MiB.
	MaxBytes int
}

// A File is a store for a [sslctx.ClientSessionCache]. Its method may be called from any goroutine, and
// from several processes.
type File struct {
	path string
	seal cipher.AEAD // or nil
	max  int
	turn chan struct{} // the Update of this process that may wait for the lock
}

const (
	defaultMaxBytes = 1 << 20
	maxRead         = 256 << 20 // another process may have a larger MaxBytes
)

// New makes a store in a file, which need not exist yet; its folder must. It makes two more files
// beside it, with the endings ".lock" and ".tmp". It returns an error for a Key of another length, for
// a negative MaxBytes, and for an existing file that is not the process's alone.
func New(path string, o Options) (*File, error) {
	f := &File{path: path, max: o.MaxBytes, turn: make(chan struct{}, 1)}
	switch {
	case o.MaxBytes < 0:
		return nil, fmt.Errorf("sessionfile: MaxBytes is %d, below 0", o.MaxBytes)
	case o.MaxBytes == 0:
		f.max = defaultMaxBytes
	}
	if o.Key != nil {
		if len(o.Key) != 32 {
			return nil, fmt.Errorf("sessionfile: Key has %d bytes, not 32", len(o.Key))
		}
		block, err := aes.NewCipher(o.Key)
		if err != nil {
			return nil, err
		}
		if f.seal, err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
	}
	if _, err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// Update changes the sessions of a key, as [sslctx.ClientSessionStore] says. It waits until ctx ends for
// other processes that change the file. When it returns, the change is on the disk.
func (f *File) Update(ctx context.Context, key string, change func(value []byte) []byte) error {
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return fmt.Errorf("sessionfile: %s is in use: %w", f.path, context.Cause(ctx))
	}
	unlock, err := lock(ctx, f.path+".lock")
	if err != nil {
		return fmt.Errorf("sessionfile: %w", err)
	}
	defer unlock()
	entries, err := f.read()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(entries, func(e entry) bool { return e.Key == key })
	var old []byte
	if i >= 0 {
		old = entries[i].Value
	}
	now := entry{key, change(bytes.Clone(old)), time.Now().UnixNano()}
	if bytes.Equal(now.Value, old) && (i < 0 || now.Used-entries[i].Used < int64(usedStep)) {
		return nil
	}
	if i >= 0 {
		entries = slices.Delete(entries, i, i+1)
	}
	if len(now.Value) > 0 && now.size() <= f.max {
		entries = append(entries, now)
	}
	return f.write(f.fit(entries))
}

// usedStep is how exactly the file says when a server was used: a use that changes nothing seldom writes.
const usedStep = time.Minute

// An entry has the sessions of one server.
type entry struct {
	Key   string
	Value []byte
	Used  int64 // Unix time in nanoseconds
}

// content is what the file has behind its first line.
type content struct{ Entries []entry }

// The first line of a file says what follows. It is also authenticated.
const (
	plainLine  = "sslctx sessions 1\n"
	sealedLine = "sslctx sessions 1, AES-256-GCM\n"
)

// fit drops the entries that were used longest ago, until the others fit.
func (f *File) fit(entries []entry) []entry {
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.Used, b.Used) })
	size := 0
	for _, e := range entries {
		size += e.size()
	}
	for len(entries) > 0 && size > f.max {
		size -= entries[0].size()
		entries = entries[1:]
	}
	return entries
}

// size is the most bytes that an entry adds to the file.
func (e entry) size() int { return len(e.Key) + len(e.Value) + 32 }

// read returns the entries. There are none in a file that nobody can read as one.
func (f *File) read() ([]entry, error) {
	in, err := os.OpenFile(f.path, os.O_RDONLY|openFlags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sessionfile: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("sessionfile: %w", err)
	}
	if err := isOurs(f.path, info); err != nil {
		return nil, fmt.Errorf("sessionfile: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(in, maxRead))
	if err != nil {
		return nil, fmt.Errorf("sessionfile: %w", err)
	}
	return f.decode(data), nil
}

func (f *File) decode(data []byte) []entry {
	line := plainLine
	if f.seal != nil {
		line = sealedLine
	}
	body, ok := bytes.CutPrefix(data, []byte(line))
	if !ok {
		return nil
	}
	if f.seal != nil {
		n := f.seal.NonceSize()
		if len(body) < n {
			return nil
		}
		opened, err := f.seal.Open(nil, body[:n], body[n:], []byte(line))
		if err != nil {
			return nil
		}
		body = opened
	}
	var c content
	if rest, err := asn1.Unmarshal(body, &c); err != nil || len(rest) > 0 {
		return nil
	}
	now := time.Now().UnixNano()
	for i := range c.Entries { // a clock was wrong
		c.Entries[i].Used = min(c.Entries[i].Used, now)
	}
	return c.Entries
}

func (f *File) encode(entries []entry) ([]byte, error) {
	body, err := asn1.Marshal(content{entries})
	if err != nil || f.seal == nil {
		return append([]byte(plainLine), body...), err
	}
	nonce := make([]byte, f.seal.NonceSize())
	_, _ = rand.Read(nonce) // it never fails
	return f.seal.Seal(append([]byte(sealedLine), nonce...), nonce, body, []byte(sealedLine)), nil
}

// write replaces the file. A process that ends in the middle leaves the old one.
func (f *File) write(entries []entry) (err error) {
	data, err := f.encode(entries)
	if err != nil {
		return fmt.Errorf("sessionfile: %w", err)
	}
	name := f.path + ".tmp"
	_ = os.Remove(name) // of a process that ended
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("sessionfile: %w", err)
	}
	_, err = out.Write(data)
	err = errors.Join(err, out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(name, f.path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(f.path))
	}
	if err != nil {
		_ = os.Remove(name)
		return fmt.Errorf("sessionfile: %w", err)
	}
	return nil
}

// syncFolder has the folder's new entry written to the disk.
func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
