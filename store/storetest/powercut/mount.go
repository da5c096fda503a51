package powercut

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Need skips the test where FUSE cannot be mounted.
func Need(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("power cuts need /dev/fuse: ", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("power cuts need root, to mount without fusermount")
	}
}

// Mounted is a disk in use at a folder.
type Mounted struct {
	disk   *Disk
	dir    string
	server *fuse.Server
	abort  *os.File // the kernel's file that ends the connection
}

// Mount makes the disk the content of dir.
func (d *Disk) Mount(t testing.TB, dir string) *Mounted {
	t.Helper()
	d.revive()
	hour := time.Hour // nobody else changes it, so the kernel may keep what it knows
	server, err := fs.Mount(dir, &node{disk: d, e: d.root}, &fs.Options{
		EntryTimeout: &hour, AttrTimeout: &hour,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "powercut", Name: "powercut", MaxWrite: 1 << 20,
			Logger: log.New(io.Discard, "", 0), // replies that come after a cut
		},
	})
	if err != nil {
		t.Fatalf("mount the power cut file system: %v", err)
	}
	m := &Mounted{disk: d, dir: dir, server: server}
	t.Cleanup(func() { m.Unmount() })
	if m.abort, err = control(t.TempDir(), dir); err != nil {
		t.Fatalf("find the connection of the power cut file system: %v", err)
	}
	return m
}

// control opens the file that aborts the connection of dir, from the kernel's
// list of FUSE connections, which is mounted at list for a moment.
func control(list, dir string) (*os.File, error) {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return nil, err
	}
	if err := unix.Mount("none", list, "fusectl", 0, ""); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(list, fmt.Sprint(unix.Minor(s.Dev)), "abort"), os.O_WRONLY, 0)
	return f, errors.Join(err, unix.Unmount(list, unix.MNT_DETACH))
}

// Cut cuts the power: see Disk.Cut. Whoever uses the file system then gets
// errors, and what the kernel still holds for it is dropped.
func (m *Mounted) Cut(rnd *rand.Rand, luck float64) error {
	m.disk.Cut(rnd, luck)
	_, err := m.abort.Write([]byte("1"))
	return err
}

// Flush has the kernel hand over what it holds in dirty pages of mapped files,
// without a sync: without it a cut would drop it all, and luck would have
// nothing to choose from.
func (m *Mounted) Flush() error {
	f, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// Unmount ends the use. The connection is aborted after it, since another mount
// namespace may hold a copy of the mount, which would keep it alive.
func (m *Mounted) Unmount() error {
	if m.server == nil {
		return nil
	}
	err := unix.Unmount(m.dir, unix.MNT_DETACH)
	if m.abort != nil {
		_, e := m.abort.Write([]byte("1"))
		err = errors.Join(err, e, m.abort.Close())
	}
	m.server.Wait()
	m.server = nil
	return err
}

// node is an entry as the kernel sees it.
type node struct {
	fs.Inode
	disk *Disk
	e    *entry
}

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeAllocater = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

// change runs f when the power is on.
func (n *node) change(f func() syscall.Errno) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.disk.dead {
		return syscall.EIO
	}
	return f()
}

func (e *entry) mode() uint32 {
	if e.dir {
		return syscall.S_IFDIR | 0o700
	}
	return syscall.S_IFREG | 0o600
}

func (e *entry) attr(a *fuse.Attr) {
	a.Ino, a.Mode, a.Size, a.Nlink = e.ino, e.mode(), uint64(e.now.size), 1
	a.Blocks = uint64(len(e.now.pages)) * pageBytes / 512
}

func (n *node) child(ctx context.Context, e *entry, out *fuse.EntryOut) *fs.Inode {
	e.attr(&out.Attr)
	return n.NewInode(ctx, &node{disk: n.disk, e: e}, fs.StableAttr{Mode: e.mode(), Ino: e.ino})
}

// Lookup implements fs.NodeLookuper.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	e := n.e.names[name]
	if e == nil {
		return nil, syscall.ENOENT
	}
	return n.child(ctx, e, out), 0
}

// Readdir implements fs.NodeReaddirer.
func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	var list []fuse.DirEntry
	for name, e := range n.e.names {
		list = append(list, fuse.DirEntry{Name: name, Ino: e.ino, Mode: e.mode()})
	}
	slices.SortFunc(list, func(a, b fuse.DirEntry) int { return int(a.Ino) - int(b.Ino) })
	return fs.NewListDirStream(list), 0
}

// Getattr implements fs.NodeGetattrer.
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.e.attr(&out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer.
func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.change(func() syscall.Errno {
		if size, ok := in.GetSize(); ok {
			n.disk.write(n.e, write{size: int64(size)})
		}
		n.e.attr(&out.Attr)
		return 0
	})
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, _, _ uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	var in *fs.Inode
	errno := n.change(func() syscall.Errno {
		if n.disk.full {
			return syscall.ENOSPC
		}
		e := n.disk.add(false)
		n.disk.rename(n.e, map[string]*entry{name: e})
		in = n.child(ctx, e, out)
		return 0
	})
	return in, nil, fuse.FOPEN_KEEP_CACHE, errno
}

// Mkdir implements fs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	var in *fs.Inode
	errno := n.change(func() syscall.Errno {
		e := n.disk.add(true)
		n.disk.rename(n.e, map[string]*entry{name: e})
		in = n.child(ctx, e, out)
		return 0
	})
	return in, errno
}

// Unlink implements fs.NodeUnlinker.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.change(func() syscall.Errno {
		n.disk.rename(n.e, map[string]*entry{name: nil})
		return 0
	})
}

// Rmdir implements fs.NodeRmdirer.
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.change(func() syscall.Errno {
		if e := n.e.names[name]; e != nil && len(e.names) > 0 {
			return syscall.ENOTEMPTY
		}
		n.disk.rename(n.e, map[string]*entry{name: nil})
		return 0
	})
}

// Rename implements fs.NodeRenamer. Between two folders it is two changes, each
// kept by a sync of its own folder: a cut may leave both names, or neither.
func (n *node) Rename(_ context.Context, name string, parent fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	p, ok := parent.(*node)
	if !ok || flags != 0 {
		return syscall.EXDEV
	}
	return n.change(func() syscall.Errno {
		e := n.e.names[name]
		if p.e == n.e {
			n.disk.rename(n.e, map[string]*entry{name: nil, to: e})
			return 0
		}
		n.disk.rename(p.e, map[string]*entry{to: e})
		n.disk.rename(n.e, map[string]*entry{name: nil})
		return 0
	})
}

// Open implements fs.NodeOpener.
func (n *node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Read implements fs.NodeReader.
func (n *node) Read(_ context.Context, _ fs.FileHandle, b []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	return fuse.ReadResultData(b[:n.e.now.read(b, off)]), 0
}

// Write implements fs.NodeWriter.
func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	errno := n.change(func() syscall.Errno {
		if n.disk.full && n.e.now.grows(off, len(data)) {
			return syscall.ENOSPC
		}
		n.disk.write(n.e, write{off: off, data: slices.Clone(data)})
		return 0
	})
	return uint32(len(data)), errno
}

// Fsync implements fs.NodeFsyncer, for files and folders.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.disk.wait()
	return n.change(func() syscall.Errno {
		n.e.sync()
		return 0
	})
}

// Allocate implements fs.NodeAllocater.
func (n *node) Allocate(_ context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	const keepSize = 1
	if mode&^keepSize != 0 {
		return syscall.EOPNOTSUPP
	}
	return n.change(func() syscall.Errno {
		if n.disk.full {
			return syscall.ENOSPC
		}
		if end := int64(off + size); mode&keepSize == 0 && end > n.e.now.size {
			n.disk.write(n.e, write{size: end})
		}
		return 0
	})
}

// Statfs implements fs.NodeStatfser.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	free := uint64(n.disk.free / pageBytes)
	out.Bsize, out.Frsize, out.Blocks, out.Bfree, out.Bavail = pageBytes, pageBytes, spaceBytes/pageBytes, free, free
	out.NameLen = 255
	return 0
}
