package op

import "fmt"

// An Intent is what a caller asks for. It is not trusted: for a signed class
// it must say exactly what the signed document says.
type Intent struct {
	Class  Class  `json:"class"`
	Target Target `json:"target"`
	Params Params `json:"params"`
}

// Clone shares nothing that could be changed through it.
func (i Intent) Clone() Intent {
	i.Target, i.Params = i.Target.Clone(), i.Params.Clone()
	return i
}

// Check tells what is wrong with the form of an intent, naming the field.
func (i Intent) Check() error {
	if !i.Class.Known() {
		return fmt.Errorf("class: %q is none of %v", clip(string(i.Class)), Classes())
	}
	if err := i.Target.check(); err != nil {
		return err
	}
	for _, x := range []struct {
		name        string
		given, must bool
	}{
		{"guest", i.Target.Guest != nil, i.Class.ActsOnGuest()},
		{"volume", i.Target.Volume != "", i.Class == VolumeDelete || i.Class == BackupDelete},
		{"pool", i.Target.Pool != nil, i.Class == StorageWipe && i.Target.Disk == ""},
		{"disk", i.Target.Disk != "", i.Class == StorageWipe && i.Target.Pool == nil},
	} {
		switch {
		case x.must && !x.given:
			return fmt.Errorf("target.%s: missing, class %s acts on one", x.name, i.Class)
		case x.given && !x.must:
			return fmt.Errorf("target.%s: class %s does not act on one, or not beside the others: leave it out", x.name, i.Class)
		}
	}
	return i.Params.check(i.Class, i.Target)
}
