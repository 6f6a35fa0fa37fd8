// Package planted asks whether the tests would notice. It keeps deliberate
// mistakes, each a small change to the program's source that somebody could make
// in good faith and that would cost people their data: an event id without the
// claim, a request sent before its announcement is durable, a timeout taken for
// proof that nothing happened.
//
// Each mistake is one file in testdata: what it is and what it would cost, in
// plain words; the suites that are to catch it, the cheapest first; and the text
// that it replaces. The program itself is never touched: the changed files are
// laid over the tree for one run of the suites (go test -overlay).
//
//	go test ./cmd/writ/planted                             every mistake can still be planted
//	go test ./cmd/writ/planted -plant -v -timeout 30m      plant each of them, and see which test fails
//	go test ./cmd/writ/planted -plant -v -run /one-name    plant one
//
// The first takes a second and belongs to every run of the tests: whoever changes
// the code that a mistake is made in carries the mistake along. The second is the
// proof, and takes some minutes. A mistake that no test notices is an error: it is
// the suite that is to be improved then. So is one that does not compile, and a
// suite that fails without any mistake, as what it says would mean nothing.
//
// With -resume FILE what was caught is kept in the file, and is not run again as
// long as neither the mistake nor any source file has changed. With -update the
// table of docs/robustness.md is written anew.
package planted
