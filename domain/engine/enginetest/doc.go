// Package enginetest is what the tests that play the engine's step function have
// in common, whichever way they go through its histories: an order of every class
// with the policy that allows it, how a host treats the subject of each class, and
// the places in the documentation that tests keep true.
//
// How a host treats a class (Class, Meeting, Look) is written down a second time
// here, on purpose: from the description of the classes in docs/classes.md, in a
// few states, and with nothing of the adapter or of the engine. What is checked by
// it is that the engine makes the right thing of whatever a class can show it.
//
// There is nothing here that the program uses.
package enginetest
