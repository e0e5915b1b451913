package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Load reads the file into the struct that into points to, as Decode does.
func Load(file string, into any) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return Decode(data, file, into)
}

// Write replaces the file by data. After a crash or a power cut at any moment, either the old or the new content is there.
// A new file is readable by its owner only, since it may hold secrets; an old one keeps its permissions.
func Write(file string, data []byte) error {
	if err := replace(file, data); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func replace(file string, data []byte) error {
	mode := os.FileMode(0o600)
	if info, err := os.Stat(file); err == nil {
		mode = info.Mode().Perm()
	}
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	d, err := os.Open(dir) // the new name, too, must survive
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
