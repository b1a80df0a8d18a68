package account

import "testing"

// Microsoft's own: icacls shows it for NT SERVICE\TrustedInstaller on every Windows.
func TestServiceSIDFollowsFromTheName(t *testing.T) {
	for name, want := range map[string]string{
		"TrustedInstaller": "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
		"trustedinstaller": "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
	} {
		if got := Service(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
