// SPDX-License-Identifier: Apache-2.0

package sslctx_test

import (
	"bytes"
	"context"
	"encoding"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"sslctx/internal/tlstest"
	"strings"
	"testing"
	texttemplate "text/template"

	"sslctx"
)

// A holder has a value in each kind of place that a program's structures have.
type holder[T any] struct {
	Name    string
	Value   T
	Pointer *T
	List    []T
	Any     any
	hidden  T
	further *T
}

type embedding struct{ *sslctx.Session }

func holderOf[T any](v T) holder[T] {
	return holder[T]{"h", v, &v, []T{v}, v, v, &v}
}

// A told is a value for encoders, with the secrets in it.
type told struct {
	value   any
	secrets [][]byte
	names   string // text that is no secret and must be there, so that a log is useful
}

// secretValues has a value of each type that has secrets, or contains such a value.
func secretValues(t *testing.T) map[string]told {
	e := newEnds(t, sslctx.VersionTLS12)
	var ofHook sslctx.SessionTicket
	must(t, e.server.SetSessionTicketCallback(func(_ context.Context, ticket sslctx.SessionTicket) ([]byte, error) {
		ofHook = ticket
		return nil, nil
	}, nil))
	s, _ := e.offer(t, nil)
	t.Cleanup(func() { _ = ofHook.Session.Close() })
	key, ticket, ofTicket := s.MasterKey(), s.Ticket(), ofHook.Session.MasterKey()
	if key.Len() != 48 || ticket.Len() < 48 || ofTicket.Len() != 48 {
		t.Fatalf("%v, %v, %v", key, ticket, ofTicket)
	}
	raw := append(bytes.Repeat([]byte{0xaa}, 16), tlstest.RandomBytes(64)...)
	ticketKey, err := sslctx.ParseTicketKey(raw)
	must(t, err)
	der, err := s.Bytes()
	must(t, err)
	_, failure := sslctx.ParseSession(der[:len(der)-1])
	var e1 *sslctx.Error
	if !errors.As(failure, &e1) {
		t.Fatal(failure)
	}
	_, refusal := sslctx.ParseSession(append(der, 0))
	ofSession := [][]byte{key.Bytes(), ticket.Bytes()}
	ofKey := [][]byte{raw[16:]}
	id := hex.EncodeToString(s.ID())
	server, conn := e.connect(t, nil)
	all := [][]byte{key.Bytes(), ticket.Bytes(), raw[16:], ofTicket.Bytes()}
	return map[string]told{
		"Session":       {s, ofSession, id},
		"master key":    {key, ofSession, "48 bytes"},
		"ticket":        {ticket, ofSession, "bytes"},
		"TicketKey":     {ticketKey, ofKey, "aaaaaaaa"},
		"TicketKeyRing": {sslctx.TicketKeyRing{Current: ticketKey, Old: []sslctx.TicketKey{ticketKey}}, ofKey, "aaaaaaaa"},
		"SessionTicket": {ofHook, append(all, ofTicket.Bytes()), "Session("},
		"Error":         {e1, ofSession, ""},
		"ArgumentError": {refusal, ofSession, "after the session"},
		"client":        {conn, all, ""},
		"server":        {server, all, ""},
		"Context":       {e.server, all, ""},
	}
}

// formats returns all verbs, plain and with the flags that change the output.
func formats() (formats []string) {
	for _, flags := range []string{"", "+", "#", " "} {
		for verb := range 26 {
			formats = append(formats, "%"+flags+string(rune('a'+verb)), "%"+flags+string(rune('A'+verb)))
		}
	}
	return formats
}

// spellings returns parts of a secret in the form of each format and encoding. There are several
// parts: one may begin in the middle of a character, but others do not.
func spellings(secret []byte) (all []string) {
	for at := 8; at < 28; at += 5 {
		part := secret[at : at+6]
		for _, format := range formats() {
			text := strings.Trim(fmt.Sprintf(format, part), `[]byte{}"'`)
			if len(text) > len(part) && !strings.HasPrefix(text, "%!") {
				all = append(all, text)
			}
		}
		all = append(all, string(part), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)))
	}
	for shift := range 3 { // base64 encodes three bytes at a time, and the secret may begin at any of them
		all = append(all, strings.TrimRight(base64.StdEncoding.EncodeToString(secret[9+shift:18+shift]), "="))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// encoders write a value as programs do, also by accident. If one fails, it writes no secret.
var encoders = map[string]func(w io.Writer, v any) error{
	"fmt": func(w io.Writer, v any) error {
		for _, format := range formats() {
			if !strings.HasSuffix(format, "p") && !strings.HasSuffix(format, "T") {
				fmt.Fprintf(w, format+"\n", v)
			}
		}
		fmt.Fprintln(w, fmt.Errorf("it is %v, %w", v, errors.Join(errors.New("x"))))
		return nil
	},
	"json": func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
	"xml":  func(w io.Writer, v any) error { return xml.NewEncoder(w).Encode(v) },
	"gob":  func(w io.Writer, v any) error { return gob.NewEncoder(w).Encode(v) },
	"slog as text": func(w io.Writer, v any) error {
		slog.New(slog.NewTextHandler(w, nil)).With("with", v).WithGroup("group").Info("x", "value", v)
		return nil
	},
	"slog as JSON": func(w io.Writer, v any) error {
		slog.New(slog.NewJSONHandler(w, nil)).With("with", v).WithGroup("group").Info("x", "value", v)
		return nil
	},
	"text/template": func(w io.Writer, v any) error {
		return texttemplate.Must(texttemplate.New("").Parse(`{{.}} {{print .}} {{printf "%x" .}} {{html .}} {{js .}}`)).Execute(w, v)
	},
	"html/template": func(w io.Writer, v any) error {
		return htmltemplate.Must(htmltemplate.New("").Parse(`<p>{{.}}<script>x = {{.}}</script>`)).Execute(w, v)
	},
	"encoding.TextMarshaler": func(w io.Writer, v any) error { // as YAML and TOML call it
		return marshaler(w, v, func(v any) func() ([]byte, error) {
			if m, ok := v.(encoding.TextMarshaler); ok {
				return m.MarshalText
			}
			return nil
		})
	},
	"encoding.BinaryMarshaler": func(w io.Writer, v any) error { // as CBOR and clients of databases call it
		return marshaler(w, v, func(v any) func() ([]byte, error) {
			if m, ok := v.(encoding.BinaryMarshaler); ok {
				return m.MarshalBinary
			}
			return nil
		})
	},
}

func marshaler(w io.Writer, v any, method func(any) func() ([]byte, error)) error {
	marshal := method(v)
	if marshal == nil {
		return nil
	}
	text, err := marshal()
	_, _ = w.Write(text)
	return err
}

// inForms returns the value in each place where an encoder may find it.
func inForms(v any) map[string]any {
	forms := map[string]any{"value": v, "list": []any{v}, "value of a map": map[string]any{"k": v}, "any": struct{ Any any }{v}}
	if reflect.TypeOf(v).Comparable() {
		forms["key of a map"] = reflect.MakeMap(reflect.MapOf(reflect.TypeOf(v), reflect.TypeFor[string]())).Interface()
		reflect.ValueOf(forms["key of a map"]).SetMapIndex(reflect.ValueOf(v), reflect.ValueOf("v"))
	}
	switch v := v.(type) {
	case *sslctx.Session:
		forms["holder"], forms["pointer to a holder"] = holderOf(v), &holder[*sslctx.Session]{hidden: v, further: &v, Value: v}
		forms["embedded"] = embedding{v}
	case sslctx.Secret:
		h := holderOf(v)
		forms["holder"], forms["pointer"], forms["pointer to a holder"] = h, &v, &h
	case sslctx.TicketKey:
		h := holderOf(v)
		forms["holder"], forms["pointer"], forms["pointer to a holder"] = h, &v, &h
	case sslctx.TicketKeyRing:
		h := holderOf(v)
		forms["holder"], forms["pointer"], forms["pointer to a holder"] = h, &v, &h
	case sslctx.SessionTicket:
		h := holderOf(v)
		forms["holder"], forms["pointer"], forms["pointer to a holder"] = h, &v, &h
	case *sslctx.Conn:
		forms["holder"] = holderOf(v)
	case *sslctx.Context:
		forms["holder"] = holderOf(v)
	}
	return forms
}

// TestSecretsStayInside gives values with secrets to every encoder that programs use, in every
// place of a structure. It looks for the secrets in the output.
func TestSecretsStayInside(t *testing.T) {
	noQueue(t)
	for name, v := range secretValues(t) {
		var forbidden []string
		for _, secret := range v.secrets {
			forbidden = append(forbidden, spellings(secret)...)
		}
		for form, value := range inForms(v.value) {
			for encoder, encode := range encoders {
				t.Run(strings.Join([]string{name, form, encoder}, "/"), func(t *testing.T) {
					var out bytes.Buffer
					err := encode(&out, value)
					fmt.Fprintln(&out, err)
					for _, secret := range forbidden {
						if strings.Contains(out.String(), secret) {
							t.Fatalf("%q is in\n%.2000q", secret, out.String())
						}
					}
					if (encoder == "fmt" || strings.HasPrefix(encoder, "slog")) && form == "value" && !strings.Contains(out.String(), v.names) {
						t.Errorf("%q is not in\n%.2000s", v.names, &out)
					}
				})
			}
		}
	}
}

// TestSpellings: TestSecretsStayInside can find bytes that encoders write.
func TestSpellings(t *testing.T) {
	secret := tlstest.RandomBytes(48)
	for encoder, encode := range encoders {
		if strings.HasPrefix(encoder, "encoding.") || encoder == "xml" { // xml replaces bytes that are no text
			continue
		}
		for form, value := range map[string]any{"plain": secret, "in a structure": struct{ B []byte }{append([]byte("x"), secret...)}} {
			var out bytes.Buffer
			must(t, encode(&out, value))
			found := false
			for _, text := range spellings(secret) {
				found = found || strings.Contains(out.String(), text)
			}
			if !found {
				t.Errorf("%s, %s: no spelling is found in\n%.500q", encoder, form, out.String())
			}
		}
	}
}

// otherwise is encoded in place of a type with MarshalBinary.
type otherwise struct{ N int }

func (otherwise) MarshalBinary() ([]byte, error) { return []byte("0"), nil }

// TestNothingIsDecoded: no decoder makes a session, a secret or a key, and binary encodings are
// refused. All errors say what to use.
func TestNothingIsDecoded(t *testing.T) {
	s, _ := established(t)
	refuses(t, "Session", s, "ParseSession")
	refuses(t, "Secret", s.MasterKey(), "Secret")
	refuses(t, "TicketKey", sslctx.NewTicketKey(), "ParseTicketKey")
}

func refuses[T any](t *testing.T, name string, v T, hint string) {
	t.Helper()
	want := func(how string, err error) {
		t.Helper()
		if !errors.Is(err, sslctx.ErrNotEncoded) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s, %s: the error is %v", name, how, err)
		}
	}
	type record struct{ V T }
	text, err := json.Marshal(record{v})
	must(t, err)
	want("JSON of its own", json.Unmarshal(text, new(record)))
	for _, text := range []string{`{}`, `""`, `"x"`, `[]`, `0`} {
		var back T
		want("JSON "+text, json.Unmarshal([]byte(text), &back))
	}
	text, err = xml.Marshal(record{v})
	must(t, err)
	want("XML", xml.Unmarshal(text, new(record)))

	var buf bytes.Buffer
	want("to gob", gob.NewEncoder(&buf).Encode(record{v}))
	buf.Reset()
	must(t, gob.NewEncoder(&buf).Encode(struct{ V otherwise }{otherwise{1}}))
	want("from gob", gob.NewDecoder(&buf).Decode(new(record)))

	back := reflect.New(reflect.TypeFor[T]())
	if back.Elem().Kind() == reflect.Pointer {
		back = reflect.New(back.Elem().Type().Elem())
	}
	want("text", back.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte("x")))
	want("binary", back.Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary([]byte("x")))
	_, err = back.Interface().(encoding.BinaryMarshaler).MarshalBinary()
	want("to binary", err)
	want("null", back.Interface().(json.Unmarshaler).UnmarshalJSON([]byte("null"))) // a null is no key either
}

// TestDescriptions: each form of a value is the description that String returns, and says what the
// value is.
func TestDescriptions(t *testing.T) {
	e := newEnds(t, sslctx.VersionTLS13)
	_, conn := e.connect(t, nil)
	session := sessionOf(t, conn)
	for name, v := range map[string]interface {
		fmt.Stringer
		fmt.GoStringer
	}{"Session(": session, "Conn(": conn, "Context(": e.server, "Secret(": session.MasterKey(), "TicketKey(": sslctx.NewTicketKey()} {
		want := v.String()
		if !strings.HasPrefix(want, name) {
			t.Errorf("%T is %q", v, want)
		}
		if got := v.GoString(); got != want {
			t.Errorf("GoString of %T is %q, String %q", v, got, want)
		}
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if got := fmt.Sprintf(format, v); got != want {
				t.Errorf("%s of %T is %q, String %q", format, v, got, want)
			}
		}
	}
	for _, v := range []interface {
		fmt.Stringer
		encoding.TextMarshaler
		slog.LogValuer
	}{session, session.MasterKey(), sslctx.NewTicketKey()} {
		text, err := v.MarshalText()
		must(t, err)
		asJSON, err := json.Marshal(v)
		must(t, err)
		var decoded string
		must(t, json.Unmarshal(asJSON, &decoded))
		if want := v.String(); string(text) != want || decoded != want {
			t.Errorf("MarshalText is %q, JSON %s, String %q", text, asJSON, want)
		}
		if log := v.LogValue(); log.Kind() == slog.KindString && log.String() != v.String() || log.Equal(slog.Value{}) {
			t.Errorf("LogValue of %T is %v", v, log)
		}
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "session", session)
	if !strings.Contains(log.String(), `"version":"TLSv1.3"`) {
		t.Errorf("the log has %s", &log)
	}
}
