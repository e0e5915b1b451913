package config

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Change gives one key, by its path with dots ("video.rtsp.url"), a value.
type Change struct{ Key, Value string }

// Edit returns the YAML document data with some values changed, comments and all else kept. Groups of keys that are missing are made;
// a path through a list is an error. The result is still to be checked, by Decode.
func Edit(data []byte, changes []Change) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("edit configuration: %w", err)
	}
	if doc.Kind == 0 || len(doc.Content) == 1 && isNull(doc.Content[0]) { // empty, or comments alone
		doc = yaml.Node{Kind: yaml.DocumentNode, HeadComment: doc.HeadComment, FootComment: doc.FootComment, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	for _, c := range changes {
		if err := set(doc.Content[0], strings.Split(c.Key, "."), c.Value); err != nil {
			return nil, fmt.Errorf("edit configuration: %s: %w", c.Key, err)
		}
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, fmt.Errorf("edit configuration: %w", err)
	}
	return out.Bytes(), enc.Close()
}

func set(n *yaml.Node, path []string, value string) error {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if isNull(n) {
		n.Kind, n.Tag, n.Value = yaml.MappingNode, "", ""
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("%q is in no group of keys", path[0])
	}
	var at *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == path[0] {
			at = n.Content[i+1]
		}
	}
	if at == nil {
		at = &yaml.Node{Kind: yaml.MappingNode}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: path[0]}, at)
	}
	if len(path) > 1 {
		return set(at, path[1:], value)
	}
	*at = yaml.Node{Kind: yaml.ScalarNode, Value: value, Tag: "!!str", HeadComment: at.HeadComment, LineComment: at.LineComment, FootComment: at.FootComment}
	if value == "true" || value == "false" {
		at.Tag = "!!bool"
	}
	return nil
}
