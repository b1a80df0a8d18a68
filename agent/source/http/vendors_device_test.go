package http_test

import (
	"time"

	"renewd/agent"
)

// deviceTrials are of machines and appliances.
func deviceTrials() []trial {
	over := wrong{name: "logged out already", step: agent.StepLogout, do: func(v *vendor) { clear(v.live) }, kind: agent.SessionOver}
	return []trial{
		{preset: "vcenter", routes: vcenter, life: 5 * time.Minute, shown: "vmware-api-session-id: %s", renews: "extend", logout: true, in: user("https://vc.example", nil),
			wrong:   []wrong{wrongPassword, over, {name: "url", in: values{"url": "https://vc.example/ui"}, kind: agent.Misconfigured}, {name: "starting", do: func(v *vendor) { v.made = -1 }, kind: agent.Transient}},
			mutants: []mutant{{"body: json", "body: text", ""}, {"method: POST, url: \"${url}/api/session\"", "method: GET, url: \"${url}/api/session\"", agent.Rejected}}},
		{preset: "proxmox", routes: proxmox, life: 2 * time.Hour, shown: "Cookie: PVEAuthCookie=%s", renews: "refresh", extra: map[string]string{"csrf": "csrf-1"}, in: user("https://pve.example:8006", values{"username": "bob@pve"}),
			wrong:   []wrong{wrongPassword, {name: "second factor", in: values{"username": "mfa@pve"}, kind: agent.NeedsHuman}},
			mutants: []mutant{{"form: {username: \"${username}\", password: \"${password}\"}", "json: {username: \"${username}\", password: \"${password}\"}", agent.Rejected}, {"/data/CSRFPreventionToken", "/data/csrf", agent.Misconfigured}}},
		{preset: "redfish", routes: redfish, life: 5 * time.Minute, shown: "X-Auth-Token: %s", renews: "extend", logout: true, extra: map[string]string{"session": "https://bmc.example/redfish/v1/SessionService/Sessions/1"}, in: user("https://bmc.example", nil),
			wrong:   []wrong{wrongPassword, over, {name: "too many sessions", do: func(v *vendor) { v.made = 16 }, kind: agent.Throttled, wait: 5 * time.Minute}},
			mutants: []mutant{{"UserName:", "Username:", agent.Rejected}, {"token: {header: X-Auth-Token}", "token: {header: X-Auth}", agent.Misconfigured}, {"/SessionService/Sessions", "/Sessions", agent.Misconfigured}}},
		{preset: "cisco-apic", routes: apic, life: 10 * time.Minute, shown: "Cookie: APIC-cookie=%s", renews: "refresh", logout: true, in: user("https://apic.example", nil),
			wrong:   []wrong{wrongPassword, over, {name: "too fast", do: func(v *vendor) { v.made = -1 }, kind: agent.Transient}},
			mutants: []mutant{{"pwd:", "password:", agent.Rejected}, {"attributes/token", "attributes/tokens", agent.Misconfigured}}},
		{preset: "f5-bigip", routes: bigip, life: 20 * time.Minute, shown: "X-F5-Auth-Token: %s", renews: "extend", logout: true, in: user("https://f5.example", nil),
			wrong:   []wrong{wrongPassword, over, {name: "provider", in: values{"provider": "x"}, kind: agent.Rejected}, {name: "too many tokens", do: func(v *vendor) { v.made = 100 }, kind: agent.Throttled, wait: 5 * time.Minute}},
			mutants: []mutant{{"loginProviderName", "provider", agent.Rejected}}},
		{preset: "cisco-fmc", routes: fmc, life: 30 * time.Minute, shown: "X-auth-access-token: %s", renews: "refresh", spends: true, logout: true, extra: map[string]string{"domain": "d1"}, in: user("https://fmc.example", nil),
			wrong:   []wrong{wrongPassword, over, {name: "too often", do: func(v *vendor) { v.made = 120 }, kind: agent.Throttled, wait: time.Minute}},
			mutants: []mutant{{"refresh_token: {header: X-auth-refresh-token}", "refresh_token: {header: X-auth-refresh}", agent.Misconfigured}}},
		{preset: "check-point", name: "user", routes: checkPoint, life: 10 * time.Minute, shown: "X-chkp-sid: %s", renews: "extend", logout: true, extra: map[string]string{"uid": "u1"}, in: user("https://cp.example", nil),
			wrong: []wrong{wrongPassword, over, {name: "too often", do: func(v *vendor) { v.made = -1 }, kind: agent.Throttled, wait: time.Minute},
				{name: "writing", in: values{"read_only": false}, kind: agent.Rejected}, {name: "url", in: values{"url": "https://cp.example/web_api"}, kind: agent.Misconfigured}},
			mutants: []mutant{{"user: \"${username}\"", "username: \"${username}\"", agent.Rejected}, {"session-timeout: \"${timeout}\", ", "", agent.Rejected}}},
		{preset: "check-point", name: "key", routes: checkPoint, life: time.Hour, shown: "X-chkp-sid: %s", renews: "extend", logout: true, in: values{"url": "https://cp.example", "api_key": "hunter2", "timeout": "1h"},
			wrong: []wrong{{name: "key", in: values{"api_key": "wrong"}, kind: agent.Rejected}}},
	}
}

func checkPoint(v *vendor) {
	const h = "X-Chkp-Sid"
	life := time.Duration(0)
	fail := func(status int, code string) reply {
		return reply{status, object{"code": code, "message": "hunter2"}, nil}
	}
	v.on("POST /web_api/login", func(a *ask) reply {
		ask, _ := a.at("session-timeout").(float64)
		byUser := a.at("user") == "bob" && a.at("password") == "hunter2" && !hasKey(a, "api-key")
		byKey := a.at("api-key") == "hunter2" && !hasKey(a, "user") && !hasKey(a, "password")
		switch {
		case v.made < 0:
			return fail(400, "err_too_many_requests")
		case !byUser && !byKey, ask < 10, ask > 3600, a.at("read-only") != true, hasKey(a, "domain"):
			return fail(400, "err_login_failed")
		}
		life = time.Duration(ask) * time.Second
		return reply{200, object{"sid": v.mint(life), "uid": "u1", "session-timeout": ask}, nil}
	})
	for _, path := range []string{"keepalive", "logout"} {
		v.on("POST /web_api/"+path, func(a *ask) reply {
			switch sid := a.Header.Get(h); {
			case !v.good(sid):
				return fail(401, "generic_err_wrong_session_id")
			case string(a.body) != "{}":
				return fail(400, "generic_err_invalid_syntax")
			case path == "logout":
				delete(v.live, sid)
			default:
				v.live[sid] = v.now().Add(life)
			}
			return reply{200, object{"message": "OK"}, nil}
		})
	}
}

func vcenter(v *vendor) {
	const h = "Vmware-Api-Session-Id"
	v.on("POST /api/session", func(a *ask) reply {
		switch {
		case v.made < 0:
			return reply{503, object{"error_type": "SERVICE_UNAVAILABLE"}, nil}
		case !a.basic("bob", "hunter2"):
			return reply{401, object{"error_type": "UNAUTHENTICATED", "messages": []any{}}, nil}
		}
		return reply{201, v.mint(5 * time.Minute), nil}
	})
	v.on("GET /api/session", func(a *ask) reply {
		if !v.good(a.Header.Get(h)) {
			return reply{401, object{"error_type": "UNAUTHENTICATED"}, nil}
		}
		v.live[a.Header.Get(h)] = v.now().Add(5 * time.Minute)
		return reply{200, object{"user": "bob"}, nil}
	})
	v.on("DELETE /api/session", func(a *ask) reply {
		if !v.good(a.Header.Get(h)) {
			return reply{401, object{"error_type": "UNAUTHENTICATED"}, nil}
		}
		delete(v.live, a.Header.Get(h))
		return reply{204, nil, nil}
	})
}

func proxmox(v *vendor) {
	v.on("POST /api2/json/access/ticket", func(a *ask) reply {
		switch password := a.form("password"); {
		case a.form("username") == "mfa@pve":
			return reply{200, object{"data": object{"ticket": "PVE:!tfa!x", "CSRFPreventionToken": "c", "NeedTFA": 1}}, nil}
		case a.form("username") != "bob@pve" || password != "hunter2" && !v.good(password):
			return reply{401, object{"data": nil}, nil}
		}
		return reply{200, object{"data": object{"ticket": v.mint(2 * time.Hour), "CSRFPreventionToken": "csrf-1", "username": "bob@pve"}}, nil}
	})
}

func redfish(v *vendor) {
	const h = "X-Auth-Token"
	v.on("POST /redfish/v1/SessionService/Sessions", func(a *ask) reply {
		fail := func(status int, id string) reply {
			return reply{status, object{"error": object{"code": "Base.1.8.GeneralError", "@Message.ExtendedInfo": []any{object{"MessageId": id, "Message": "hunter2"}}}}, nil}
		}
		switch {
		case v.made >= 16:
			return fail(503, "Base.1.8.SessionLimitExceeded")
		case a.at("UserName") != "bob" || a.at("Password") != "hunter2":
			return fail(401, "Base.1.8.NoValidSession")
		}
		// Its own idea of its name is of no use to us.
		return reply{201, object{"Id": "1"}, []string{h, v.mint(5 * time.Minute), "Location", "https://10.0.0.9/redfish/v1/SessionService/Sessions/1"}}
	})
	const session = " /redfish/v1/SessionService/Sessions/1"
	v.on("GET"+session, func(a *ask) reply {
		if a.Host != "bmc.example" || !v.good(a.Header.Get(h)) {
			return reply{401, object{}, nil}
		}
		v.live[a.Header.Get(h)] = v.now().Add(5 * time.Minute)
		return reply{200, object{"Id": "1"}, nil}
	})
	v.on("DELETE"+session, func(a *ask) reply {
		if a.Host != "bmc.example" || !v.good(a.Header.Get(h)) {
			return reply{404, object{}, nil}
		}
		delete(v.live, a.Header.Get(h))
		return reply{204, nil, nil}
	})
}

func apic(v *vendor) {
	cookie := func(a *ask) string {
		c, err := a.Cookie("APIC-cookie")
		if err != nil {
			return ""
		}
		return c.Value
	}
	issue := func() reply {
		attributes := object{"token": v.mint(10 * time.Minute), "refreshTimeoutSeconds": "600", "userName": "bob"}
		return reply{200, object{"totalCount": "1", "imdata": []any{object{"aaaLogin": object{"attributes": attributes}}}}, nil}
	}
	fail := func(status int, text string) reply {
		return reply{status, object{"imdata": []any{object{"error": object{"attributes": object{"code": "401", "text": text}}}}}, nil}
	}
	v.on("POST /api/aaaLogin.json", func(a *ask) reply {
		switch {
		case v.made < 0:
			return reply{503, nil, nil}
		case a.at("aaaUser", "attributes", "name") != "bob" || a.at("aaaUser", "attributes", "pwd") != "hunter2":
			return fail(401, "Username or password is incorrect - FAILED local authentication")
		}
		return issue()
	})
	v.on("GET /api/aaaRefresh.json", func(a *ask) reply {
		if !v.good(cookie(a)) {
			return fail(403, "Token was invalid (Error: Token timeout)")
		}
		return issue()
	})
	v.on("POST /api/aaaLogout.json", func(a *ask) reply {
		if !v.good(cookie(a)) {
			return fail(403, "Token was invalid (Error: Token timeout)")
		}
		delete(v.live, cookie(a))
		return reply{200, object{"imdata": []any{}}, nil}
	})
}

func bigip(v *vendor) {
	const h = "X-F5-Auth-Token"
	start := map[string]time.Time{}
	v.on("POST /mgmt/shared/authn/login", func(a *ask) reply {
		switch {
		case v.made >= 100:
			return reply{400, object{"code": 400, "message": "Bad Request: user bob has reached maximum active login tokens"}, nil}
		case a.at("username") != "bob" || a.at("password") != "hunter2" || a.at("loginProviderName") != "tmos":
			return reply{401, object{"code": 401, "message": "Authentication failed."}, nil}
		}
		token := v.mint(20 * time.Minute)
		start[token] = v.now()
		return reply{200, object{"token": object{"token": token, "timeout": 1200, "expirationMicros": v.live[token].UnixMicro()}}, nil}
	})
	v.on("PATCH /mgmt/shared/authz/tokens/{token}", func(a *ask) reply {
		token := a.PathValue("token")
		ask, _ := a.at("timeout").(float64)
		switch {
		case !v.good(token) || a.Header.Get(h) != token:
			return reply{401, object{"code": 401, "message": "X-F5-Auth-Token does not exist."}, nil}
		case ask > 36000:
			return reply{406, object{"message": "Auth-token absolute timeout (36000 seconds) exceeded"}, nil}
		}
		v.live[token] = start[token].Add(time.Duration(ask) * time.Second)
		return reply{200, object{"token": token, "timeout": ask, "expirationMicros": v.live[token].UnixMicro()}, nil}
	})
	v.on("DELETE /mgmt/shared/authz/tokens/{token}", func(a *ask) reply {
		if !v.good(a.Header.Get(h)) {
			return reply{401, object{}, nil}
		}
		delete(v.live, a.PathValue("token"))
		return reply{200, object{}, nil}
	})
}

// fmc refreshes three times and no more.
func fmc(v *vendor) {
	const access, refresh = "X-Auth-Access-Token", "X-Auth-Refresh-Token"
	left := map[string]int{}
	issue := func(n int) reply {
		token, rt := v.mint(30*time.Minute), v.mint(2*time.Hour)
		left[rt] = n
		return reply{204, nil, []string{access, token, refresh, rt, "DOMAIN_UUID", "d1", "Content-Type", "text/html"}}
	}
	v.on("POST /api/fmc_platform/v1/auth/generatetoken", func(a *ask) reply {
		switch {
		case v.made >= 120:
			return reply{429, object{"error": object{}}, nil}
		case !a.basic("bob", "hunter2") || len(a.body) > 0:
			return reply{401, object{"error": object{"category": "FRAMEWORK"}}, nil}
		}
		return issue(3)
	})
	v.on("POST /api/fmc_platform/v1/auth/refreshtoken", func(a *ask) reply {
		rt := a.Header.Get(refresh)
		if !v.good(rt) || v.live[a.Header.Get(access)].IsZero() || left[rt] == 0 {
			return reply{401, object{"error": object{"category": "FRAMEWORK"}}, nil}
		}
		delete(v.live, rt)
		return issue(left[rt] - 1)
	})
	v.on("POST /api/fmc_platform/v1/auth/revokeaccess", func(a *ask) reply {
		if !v.good(a.Header.Get(access)) {
			return reply{401, object{}, nil}
		}
		delete(v.live, a.Header.Get(access))
		return reply{204, nil, nil}
	})
}
