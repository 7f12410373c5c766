package cloudevent_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
)

// firstDir holds each schema as it was when its type first left the program.
const firstDir = "testdata/v1"

// breaks lists what a receiver that was built for a schema may stumble over in a later one. That may have
// more members, as long as they are not required, more values in an enum, and other words for people.
// Whatever else differs is listed, so that a keyword that nobody has thought of is not let through.
func breaks(before, now map[string]any) []string { return breaksAt("", before, now) }

func breaksAt(at string, before, now map[string]any) []string {
	var found []string
	add := func(format string, args ...any) {
		found = append(found, strings.TrimPrefix(at, ".")+": "+fmt.Sprintf(format, args...))
	}
	words := map[string]bool{"title": true, "description": true, "examples": true, "$comment": true}
	keywords := maps.Clone(before)
	maps.Copy(keywords, now)
	for _, keyword := range slices.Sorted(maps.Keys(keywords)) {
		was, is := before[keyword], now[keyword]
		switch {
		case words[keyword] || reflect.DeepEqual(was, is):
		case keyword == "required":
			for _, name := range without(is, was) {
				add("%v is required now", name)
			}
			for _, name := range without(was, is) {
				add("%v may be missing now", name)
			}
		case keyword == "enum" && was != nil && is != nil:
			for _, value := range without(was, is) {
				add("%v is no value any more", value)
			}
		case keyword == "properties" && was != nil:
			found = append(found, removed(at, was.(map[string]any), members(is))...)
		case keyword == "properties":
		case keyword == "items" && was != nil && is != nil:
			found = append(found, breaksAt(at+"[]", was.(map[string]any), is.(map[string]any))...)
		default:
			add("%s was %v, is %v", keyword, was, is)
		}
	}
	return found
}

// removed lists the members that are gone or broken.
func removed(at string, before, now map[string]any) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		is, there := now[name].(map[string]any)
		if !there {
			found = append(found, strings.TrimPrefix(at+"."+name, ".")+": is gone")
			continue
		}
		found = append(found, breaksAt(at+"."+name, before[name].(map[string]any), is)...)
	}
	return found
}

func members(properties any) map[string]any {
	object, _ := properties.(map[string]any)
	return object
}

// without lists what one list has and another does not.
func without(list, other any) []any {
	has, _ := other.([]any)
	all, _ := list.([]any)
	return slices.DeleteFunc(slices.Clone(all), func(v any) bool { return slices.Contains(has, v) })
}

// TestSchemasBreakNoReceiver compares every schema with its first form. What a type tells in another way is
// another type, with another name.
func TestSchemasBreakNoReceiver(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(firstDir + "/*.json")
	require.NoError(t, err)
	require.Len(t, files, len(names())+1, "a type that was once sent is sent for ever")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		before, err := os.ReadFile(file)
		require.NoError(t, err)
		now, ok := cloudevent.SchemaOf(name)
		require.True(t, ok, "%s is gone", name)
		require.Empty(t, breaks(parsed(t, before), parsed(t, now)), name)
	}
}

func TestWhatBreaksAReceiverIsNoticed(t *testing.T) {
	t.Parallel()
	const before = `{"$id":"a","title":"A","type":"object","required":["seq","to"],"properties":{
		"seq":{"type":"integer","minimum":1},"to":{"type":"string","enum":["b","c"]},"note":{"type":"string"},
		"lines":{"type":"array","items":{"type":"object","required":["sku"],"properties":{
			"sku":{"type":"string","format":"uuid"}}}},
		"any":{"type":"object"}}}`
	for _, c := range []struct{ name, old, now, want string }{
		{"nothing", ``, ``, ""},
		{"other words", `"title":"A"`, `"title":"B","description":"words","$comment":"x"`, ""},
		{"a new member", `"note":`, `"more":{"type":"string"},"note":`, ""},
		{"a new member further in", `"sku":{`, `"unit":{"type":"string"},"sku":{`, ""},
		{"the first members", `"any":{"type":"object"}`, `"any":{"type":"object","properties":{"x":{}}}`, ""},
		{"a new value", `["b","c"]`, `["b","c","d"]`, ""},
		{"another order", `["b","c"]`, `["c","b"]`, ""},

		{"a member is gone", `"note":{"type":"string"},`, ``, "note: is gone"},
		{"a member has another name", `"note":`, `"remark":`, "note: is gone"},
		{"a member further in is gone", `"sku":{"type"`, `"id":{"type"`, "lines[].sku: is gone"},
		{"all members are gone", `"properties":{
			"sku":{"type":"string","format":"uuid"}}`, `"minProperties":1`, "lines[].sku: is gone"},
		{"a member is required", `["seq","to"]`, `["seq","to","note"]`, "note is required now"},
		{
			"a new member is required", `"required":["sku"],"properties":{`,
			`"required":["sku","unit"],"properties":{"unit":{},`, "lines[]: unit is required now",
		},
		{
			"members are required where none was", `"any":{"type":"object"}`,
			`"any":{"type":"object","required":["x"]}`, "any: x is required now",
		},
		{"a member may be missing", `["seq","to"]`, `["seq"]`, "to may be missing now"},
		{"any member may be missing", `"required":["seq","to"],`, ``, "seq may be missing now"},
		{"another type", `"note":{"type":"string"}`, `"note":{"type":"integer"}`, "note: type was string"},
		{"a wider type", `"note":{"type":"string"`, `"note":{"type":["string","null"]`, "note: type was"},
		{"a narrower number", `"minimum":1`, `"minimum":2`, "seq: minimum was 1"},
		{"a wider number", `,"minimum":1`, ``, "seq: minimum was 1"},
		{"another format", `"uuid"`, `"uri"`, "lines[].sku: format was uuid"},
		{"no format", `,"format":"uuid"`, ``, "lines[].sku: format was uuid"},
		{"a value is gone", `["b","c"]`, `["b"]`, "to: c is no value any more"},
		{"a value has another name", `["b","c"]`, `["b","d"]`, "to: c is no value any more"},
		{"any value", `,"enum":["b","c"]`, ``, "to: enum was [b c]"},
		{"certain values", `"note":{`, `"note":{"enum":["x"],`, "note: enum was"},
		{"a pattern", `"note":{`, `"note":{"pattern":"x",`, "note: pattern was"},
		{"no more members", `"title":"A"`, `"additionalProperties":false`, "additionalProperties was"},
		{"other items", `"items":{"type":"object"`, `"items":{"type":"string"`, "lines[]: type was object"},
		{"no items", `"items":`, `"prefixItems":`, "lines: items was map"},
		{"a keyword that nobody thought of", `"title":"A"`, `"if":{}`, "if was"},
		{"another address", `"$id":"a"`, `"$id":"b"`, "$id was a"},
	} {
		now := strings.Replace(before, c.old, c.now, 1)
		require.Equal(t, c.name == "nothing", now == before, c.name)
		found := breaks(parsed(t, []byte(before)), parsed(t, []byte(now)))
		if c.want == "" {
			require.Empty(t, found, c.name)
			continue
		}
		require.NotEmpty(t, found, c.name)
		require.Contains(t, strings.Join(found, "\n"), c.want, c.name)
	}
}

// TestEveryPartOfEverySchemaIsHeldTo takes each keyword and each member of each present schema away, once.
func TestEveryPartOfEverySchemaIsHeldTo(t *testing.T) {
	t.Parallel()
	for _, name := range append(names(), cloudevent.EnvelopeName) {
		before, now := schemaOf(t, name), schemaOf(t, name)
		cuts := 0
		cut(now, func(from map[string]any, what string) {
			was := from[what]
			delete(from, what)
			require.NotEmpty(t, breaks(before, now), "%s without %s", name, what)
			from[what] = was
			cuts++
		})
		require.Empty(t, breaks(before, now))
		require.Greater(t, cuts, 3, name)
	}
}

// cut calls do for each part of a schema that is not for people.
func cut(s map[string]any, do func(from map[string]any, what string)) {
	for _, keyword := range slices.Sorted(maps.Keys(s)) {
		if keyword != "title" && keyword != "description" {
			do(s, keyword)
		}
	}
	properties := members(s["properties"])
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		do(properties, name)
		cut(members(properties[name]), do)
	}
	if items := members(s["items"]); items != nil {
		cut(items, do)
	}
}
