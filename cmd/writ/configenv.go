package main

import (
	"encoding"
	"errors"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

const envPrefix = "WRIT_"

// Variables that give secrets: that of the Proxmox VE token, the service user's
// password, and that of root@pam. They have no key in the file: secrets stand in files of their
// own, or in the environment.
const (
	secretVariable       = envPrefix + "HOST_PROXMOX_TOKEN_SECRET"
	passwordVariable     = envPrefix + "HOST_PROXMOX_PASSWORD"
	wipePasswordVariable = envPrefix + "HOST_PROXMOX_WIPE_PASSWORD"
)

// Variables that clients and tests read; they are no keys of the file.
const (
	configVariable    = envPrefix + "CONFIG"     // where the configuration is
	urlVariable       = envPrefix + "URL"        // where the service is
	tokenFileVariable = envPrefix + "TOKEN_FILE" // the bearer token to show it
	ciVariable        = envPrefix + "CI"         // set when tests must not skip
)

// applyEnviron puts the environment's values over those of the file. It gives
// which variable set which key. A WRIT_ variable that is no key is refused:
// whoever set it believes that it does something.
func (c *config) applyEnviron(environ []string) (from map[string]string, err error) {
	from = make(map[string]string)
	keys := environKeys(reflect.ValueOf(c).Elem(), "")
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		switch name {
		case configVariable, urlVariable, tokenFileVariable, ciVariable:
			continue
		case secretVariable, passwordVariable, wipePasswordVariable:
			if value == "" {
				return nil, &lineError{Path: name, Why: "empty", Hint: "unset it, or give the secret"}
			}
			switch name {
			case secretVariable:
				c.Host.Proxmox.Secret = secret(value)
			case passwordVariable:
				c.Host.Proxmox.Password = secret(value)
			default:
				c.Host.Proxmox.WipePassword = secret(value)
			}
			continue
		}
		i := slices.IndexFunc(keys, func(k environKey) bool { return k.variable == name })
		if i < 0 {
			return nil, &lineError{Path: name, Why: "no key of the configuration has this variable", Hint: suggestVariable(name, keys)}
		}
		if err := keys[i].set(name, value); err != nil {
			return nil, err
		}
		from[name] = keys[i].key
	}
	return from, nil
}

// An environKey is a key that a variable can set.
type environKey struct {
	key, variable string
	value         reflect.Value
}

// environKeys lists the keys below a struct that hold values.
func environKeys(v reflect.Value, path string) []environKey {
	var keys []environKey
	for _, f := range yamlFields(v.Type()) {
		key, field := join(path, f.name), v.Field(f.index)
		if field.Kind() == reflect.Struct && !readsText(f.typ) {
			keys = append(keys, environKeys(field, key)...)
			continue
		}
		variable := envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		keys = append(keys, environKey{key: key, variable: variable, value: field})
	}
	return keys
}

// set gives the key the variable's value: text as it is, anything else as
// YAML, under the rules of the file.
func (k environKey) set(name, value string) error {
	if value == "" {
		return &lineError{Path: name, Why: k.key + ": empty", Hint: "unset it, or give a value"}
	}
	target := k.value.Addr().Interface()
	if t, ok := target.(encoding.TextUnmarshaler); ok {
		if err := t.UnmarshalText([]byte(value)); err != nil {
			return &lineError{Path: name, Why: k.key + ": " + err.Error()}
		}
		return nil
	}
	if k.value.Kind() == reflect.String {
		k.value.SetString(value)
		return nil
	}
	y := &yamlFile{path: name, data: []byte(value)}
	var root yaml.Node
	err := yaml.Load(y.data, &root)
	if err == nil && len(root.Content) == 1 {
		k.value.SetZero() // the variable counts instead of the file, not beside it
		if err = y.check(root.Content[0], k.value.Type(), k.key); err == nil {
			err = yaml.Load(y.data, target, yaml.WithKnownFields())
		}
	}
	var told *lineError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &told):
		told.Line = 0
		return told
	}
	bad := &lineError{Path: name, Why: k.key + ": " + err.Error(), Hint: "write it as in YAML, on one line"}
	if errors.As(y.syntaxError(err), &told) {
		bad.Why = k.key + ": " + told.Why
	}
	return bad
}

func suggestVariable(name string, keys []environKey) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.variable
	}
	if s := suggest(name, names); strings.HasPrefix(s, "did you mean") {
		return s
	}
	return "unset it; a variable is " + envPrefix + " and the key in capitals, with _ for each dot"
}
