package seal

// Sealers are the ways to seal of this system, the best first; none: the key file
// holds the key itself. A user's own agent runs in a session, where the Keychain
// is open; a daemon of the machine has none that opens by itself.
func Sealers(machine bool) []*Sealer {
	if machine {
		return nil
	}
	return []*Sealer{kept("Keychain", keyringEntry("renewd", "state key"))}
}
