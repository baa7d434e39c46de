package marathon

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var segment = regexp.MustCompile(`^((([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.))$`)

var reservedSegments = []string{"restart", "tasks", "versions", ".", ".."}

// validID checks an app's ID with its leading slash.
func validID(id string) error {
	path := strings.TrimPrefix(id, "/")
	if path == "" {
		return invalidObject([]problem{{"/id", []string{"must not be equal to \"/\""}}})
	}
	segments := strings.Split(path, "/")
	for _, s := range segments {
		if !segment.MatchString(s) {
			return invalidObject([]problem{{"/id", []string{"must fully match regular expression '" + segment.String() + "'"}}})
		}
	}
	if last := segments[len(segments)-1]; slices.Contains(reservedSegments, last) {
		return invalidObject([]problem{{"/id", []string{fmt.Sprintf("must not end with any of the following reserved keywords: %s", strings.Join(reservedSegments, ", "))}}})
	}
	return nil
}

// singleInstance is the label that makes Marathon refuse a second instance.
const singleInstance = "MARATHON_SINGLE_INSTANCE_APP"

// validate checks a complete definition.
func (c *Core) validate(a *App) error {
	var ps []problem
	bad := func(cond bool, path, text string) {
		if cond {
			ps = append(ps, problem{path, []string{text}})
		}
	}
	cmd := orElse(a.Cmd, "")
	bad(a.Cmd != nil && len(cmd) < 2, "/cmd", "must not be an empty string")
	bad(a.Cmd == nil && len(a.Args) == 0 && a.image() == "", "/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.")
	bad(a.Cmd != nil && len(a.Args) > 0, "/", "AppDefinition must either contain one of 'cmd' or 'args', not both.")
	bad(*a.CPUs < 0.001, "/cpus", "error.min")
	bad(*a.Mem < 0, "/mem", "error.min")
	bad(*a.Disk < 0, "/disk", "error.min")
	bad(*a.GPUs < 0, "/gpus", "error.min")
	bad(*a.Instances < 0, "/instances", "error.min")
	bad(*a.BackoffSeconds < 0, "/backoffSeconds", "error.min")
	bad(*a.BackoffFactor < 1, "/backoffFactor", "error.min")
	bad(*a.MaxLaunchDelaySeconds < 0, "/maxLaunchDelaySeconds", "error.min")
	bad(orElse(a.TaskKillGracePeriodSeconds, 0) < 0, "/taskKillGracePeriodSeconds", "error.min")
	share := func(v float64) bool { return v < 0 || v > 1 }
	bad(share(a.UpgradeStrategy.MinimumHealthCapacity), "/upgradeStrategy/minimumHealthCapacity", "is not between 0.0 and 1.0")
	bad(share(a.UpgradeStrategy.MaximumOverCapacity), "/upgradeStrategy/maximumOverCapacity", "is not between 0.0 and 1.0")
	bad(!slices.Contains([]string{"YOUNGEST_FIRST", "OLDEST_FIRST"}, *a.KillSelection), "/killSelection", "error.unknown.enum.literal")
	bad(a.Networks[0].Mode == "host" && a.Container != nil && len(a.Container.PortMappings) > 0, "/container/portMappings", "must be empty for host-mode networking")
	bad(a.Container != nil && a.Container.Type == "DOCKER" && a.image() == "", "/container/docker/image", "must not be empty")
	if a.Labels[singleInstance] == "true" {
		bad(*a.Instances > 1, "/instances", "must be 0 or 1 for app with label "+singleInstance)
		bad(*a.UpgradeStrategy != UpgradeStrategy{}, "/upgradeStrategy", "is not supported for app with label "+singleInstance+": minimumHealthCapacity and maximumOverCapacity must be 0")
	}
	for k, raw := range a.Env {
		_, text := envText(raw)
		bad(!text && !strings.HasPrefix(strings.TrimSpace(string(raw)), "{"), "/env("+k+")", "error.expected.jsstring")
	}
	ps = append(ps, c.validateUnreachable(a.UnreachableStrategy)...)
	for i, con := range a.Constraints {
		if text := invalidConstraint(con); text != "" {
			ps = append(ps, problem{"/constraints(" + strconv.Itoa(i) + ")", []string{text}})
		}
	}
	if len(ps) > 0 {
		return invalidObject(ps)
	}
	return nil
}

// validateUnreachable checks a strategy; 1.4 knows no "disabled" and needs 1 s ≤ inactive < expunge.
func (c *Core) validateUnreachable(u *Unreachable) []problem {
	const path = "/unreachableStrategy"
	switch {
	case c.o.Legacy && u.Disabled:
		return []problem{{path, []string{"error.expected.jsobject"}}}
	case u.Disabled:
		return nil
	case c.o.Legacy && u.InactiveAfterSeconds < 1:
		return []problem{{path + "/inactiveAfterSeconds", []string{"must be greater than or equal to 1"}}}
	case c.o.Legacy && u.ExpungeAfterSeconds <= u.InactiveAfterSeconds, u.ExpungeAfterSeconds < u.InactiveAfterSeconds:
		return []problem{{path, []string{"inactiveAfterSeconds must be less than expungeAfterSeconds"}}}
	case u.InactiveAfterSeconds < 0:
		return []problem{{path + "/inactiveAfterSeconds", []string{"error.min"}}}
	}
	return nil
}

var isLiteral = regexp.MustCompile(`^[a-zA-Z0-9_/.-]*$`)

// invalidConstraint says what is wrong with [field, operator, value]; "" is nothing.
func invalidConstraint(c []string) string {
	if len(c) < 2 || len(c) > 3 || c[0] == "" {
		return "Constraint definition must have a field, an operator and, for some operators, a value"
	}
	value, has := "", len(c) == 3
	if has {
		value = c[2]
	}
	_, notInt := strconv.Atoi(value)
	switch strings.ToUpper(c[1]) {
	case "UNIQUE":
		if has && value != "" {
			return "Value specified but not used"
		}
	case "CLUSTER":
	case "IS":
		if !has || !isLiteral.MatchString(value) {
			return "IS requires a literal value"
		}
	case "GROUP_BY":
		if has && value != "" && notInt != nil {
			return "Value was specified but is not a number"
		}
	case "MAX_PER":
		if notInt != nil {
			return "Value was not specified or is not a number"
		}
	case "LIKE", "UNLIKE":
		if !has {
			return "A regular expression value must be provided"
		}
		if _, err := regexp.Compile(value); err != nil {
			return "'" + value + "' is not a valid regular expression"
		}
	default:
		return "Invalid operator " + c[1]
	}
	return ""
}
