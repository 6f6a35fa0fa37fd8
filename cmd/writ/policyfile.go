package main

import (
	"errors"
	"strings"

	"writ/domain/gate"
	"writ/domain/op"
)

// A policyFile is a policy as it stands in a file.
type policyFile struct {
	Path     string
	Document gate.PolicyDocument
	Source   op.Digest // of the file's bytes

	yaml *yamlFile
}

// readPolicyFile reads a policy file. What it gives is in form but may still
// say what can't be put in force: see compile. The error names file and line.
func readPolicyFile(path string) (*policyFile, error) {
	p := &policyFile{Path: path}
	y, err := readYAML(path, &p.Document)
	if err != nil {
		return nil, err
	}
	p.yaml, p.Source = y, op.DigestOf(y.data)
	return p, nil
}

// compile makes the policy ready to decide, under a serial. The error names
// every problem, each with its line.
func (p *policyFile) compile(serial uint64) (*gate.Policy, error) {
	policy, err := gate.Compile(p.Document, serial)
	if err != nil {
		return nil, p.explain(err)
	}
	return policy, nil
}

// A policyProblems error is a gate.PolicyError with the lines of the file.
type policyProblems struct{ Problems []*lineError }

func (e *policyProblems) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// explain puts the problems of a policy in terms of its file; other errors it
// gives back as they are.
func (p *policyFile) explain(err error) error {
	var bad *gate.PolicyError
	if !errors.As(err, &bad) {
		return err
	}
	out := &policyProblems{}
	for _, problem := range bad.Problems {
		out.Problems = append(out.Problems, &lineError{Path: p.Path, Line: p.yaml.lineOf(problem.Path), Why: problem.String()})
	}
	return out
}
