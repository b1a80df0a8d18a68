package http_test

import (
	"time"

	"renewd/agent"
)

// user is what most of them ask for.
func user(url string, more values) values {
	return (&trial{in: values{"url": url, "username": "bob", "password": "hunter2"}}).inputs(more)
}

var wrongPassword = wrong{name: "password", in: values{"password": "wrong"}, kind: agent.Rejected}

// loginTrials are of servers with a login of their own.
func loginTrials() []trial {
	const bearer = "Authorization: Bearer %s"
	return []trial{
		{preset: "zabbix", routes: zabbix, life: 15 * time.Minute, shown: bearer, renews: "extend", logout: true, in: user("https://z.example/zabbix", nil),
			wrong: []wrong{wrongPassword, {name: "url", in: values{"url": "https://z.example"}, kind: agent.Misconfigured},
				{name: "no access", in: values{"username": "eve"}, kind: agent.Misconfigured},
				{name: "logged out already", step: agent.StepLogout, do: func(v *vendor) { clear(v.live) }, kind: agent.SessionOver}},
			mutants: []mutant{{"username: \"${username}\"", "user: \"${username}\"", agent.Misconfigured}}},
		{preset: "zabbix", name: "before 6.4", routes: zabbix, life: 15 * time.Minute, shown: bearer, renews: "extend", logout: true, in: user("https://z.example/zabbix", values{"auth": "body"})},
		{preset: "keystone", name: "user", routes: keystone, life: time.Hour, shown: "X-Auth-Token: %s", logout: true, extra: map[string]string{"project_id": "p1"}, in: user("https://k.example:5000", values{"project": "demo"}),
			wrong: []wrong{wrongPassword, {name: "project", in: values{"project": "x"}, kind: agent.Rejected}, {name: "url", in: values{"url": "https://k.example:5000/v3"}, kind: agent.Misconfigured},
				{name: "second factor", in: values{"username": "mfa"}, kind: agent.NeedsHuman},
				{name: "logged out already", step: agent.StepLogout, do: func(v *vendor) { clear(v.live) }, kind: agent.SessionOver}},
			mutants: []mutant{{"methods: [password]", "methods: [token]", agent.Misconfigured}, {"header: X-Subject-Token", "header: X-Auth-Token", agent.Misconfigured}}},
		{preset: "keystone", name: "project's ID", routes: keystone, life: time.Hour, shown: "X-Auth-Token: %s", logout: true, extra: map[string]string{"project_id": "p1"}, in: user("https://k.example:5000", values{"project_id": "p1"})},
		{preset: "keystone", name: "unscoped", routes: keystone, life: time.Hour, shown: "X-Auth-Token: %s", logout: true, in: user("https://k.example:5000", nil)},
		{preset: "keystone", name: "application credential", routes: keystone, life: time.Hour, shown: "X-Auth-Token: %s", logout: true,
			in:    values{"url": "https://k.example:5000", "application_credential_id": "ac", "application_credential_secret": "hunter2"},
			wrong: []wrong{{name: "secret", in: values{"application_credential_secret": "wrong"}, kind: agent.Rejected}}},
		{preset: "grafana", name: "maker's token", routes: grafana, life: 2 * time.Hour, shown: bearer, logout: true, extra: map[string]string{"id": "1"},
			in: values{"url": "https://g.example/grafana", "service_account_id": int64(7), "maker_token": "hunter2", "ttl": "2h"},
			wrong: []wrong{{name: "maker", in: values{"maker_token": "wrong"}, kind: agent.Rejected}, {name: "account", in: values{"service_account_id": "8"}, kind: agent.Misconfigured},
				{name: "rights", in: values{"maker_token": "viewer"}, kind: agent.Misconfigured}, {name: "ttl", in: values{"ttl": "300d"}, kind: agent.Misconfigured}},
			mutants: []mutant{{"renewd-${uuid()}", "renewd", ""}}},
		{preset: "grafana", name: "admin", routes: grafana, life: 24 * time.Hour, shown: bearer, logout: true, in: user("https://g.example/grafana", values{"service_account_id": "7", "org_id": int64(1)}), wrong: []wrong{wrongPassword}},
		{preset: "awx", routes: awx, life: 24 * time.Hour, shown: bearer, logout: true, extra: map[string]string{"id": "1"}, in: user("https://a.example/api/v2", nil),
			wrong: []wrong{wrongPassword, {name: "external user", in: values{"username": "ldap"}, kind: agent.Misconfigured}, {name: "url", in: values{"url": "https://a.example"}, kind: agent.Misconfigured},
				{name: "deleted already", step: agent.StepLogout, do: func(v *vendor) { clear(v.live) }, kind: agent.SessionOver}},
			mutants: []mutant{{"application: null, ", "", agent.Misconfigured}}},
		{preset: "graylog", routes: graylog, life: 8 * time.Hour, shown: "Authorization: Basic dG9rZW4tMTpzZXNzaW9u", logout: true, in: user("https://gl.example", nil),
			wrong:   []wrong{wrongPassword, {name: "ended already", step: agent.StepLogout, do: func(v *vendor) { clear(v.live) }, kind: agent.SessionOver}, {name: "url", in: values{"url": "https://gl.example/api"}, kind: agent.Misconfigured}},
			mutants: []mutant{{"headers: {X-Requested-By: renewd, Accept: application/json}, ", "", agent.Rejected}, {"/valid_until", "/until", agent.Misconfigured}}},
		{preset: "rubrik", routes: rubrik, life: 24 * time.Hour, shown: bearer, logout: true, in: values{"url": "https://r.example", "id": "User:::1", "secret": "hunter2"},
			wrong: []wrong{{name: "secret", in: values{"secret": "wrong"}, kind: agent.Rejected}, {name: "ended already", step: agent.StepLogout, do: func(v *vendor) { clear(v.live) }, kind: agent.SessionOver}}},
		{preset: "veeam", routes: veeam, life: 15 * time.Minute, shown: bearer, renews: "refresh", spends: true, logout: true, in: user("https://v.example:9419", nil),
			wrong: []wrong{wrongPassword, {name: "API version", in: values{"api_version": "0.9"}, kind: agent.Rejected}, {name: "second factor", in: values{"username": "mfa"}, kind: agent.NeedsHuman},
				{name: "reused", step: agent.StepRefresh, do: func(v *vendor) { clear(v.seen) }, kind: agent.SessionOver}}},
		{preset: "pocketbase", routes: pocketbase, life: time.Hour, shown: "Authorization: %s", renews: "refresh", extra: map[string]string{"id": "r1"},
			in: values{"url": "http://127.0.0.1:8090", "identity": "bob", "password": "hunter2"},
			wrong: []wrong{wrongPassword, {name: "collection", in: values{"collection": "x"}, kind: agent.Misconfigured}, {name: "second factor", in: values{"identity": "mfa"}, kind: agent.NeedsHuman},
				{name: "no passwords", in: values{"collection": "oauth"}, kind: agent.Misconfigured}},
			mutants: []mutant{{"auth-with-password", "auth", agent.Misconfigured}, {"identity: \"${identity}\", password: \"${password}\"", "identity: \"${identity}\"", agent.Rejected}}},
		{preset: "etcd", name: "JWT", routes: etcd, life: 5 * time.Minute, shown: "Authorization: %s", in: user("https://e.example:2379", nil),
			wrong: []wrong{wrongPassword, {name: "no authentication", do: func(v *vendor) { v.made = -1 }, kind: agent.Misconfigured}, {name: "url", in: values{"url": "https://e.example:2379/v3"}, kind: agent.Misconfigured}}},
		{preset: "etcd", name: "simple token", routes: etcd, life: 4 * time.Minute, shown: "Authorization: %s", in: user("https://e.example:2379", values{"username": "simple"})},
	}
}

func zabbix(v *vendor) {
	v.on("POST /zabbix/api_jsonrpc.php", func(a *ask) reply {
		fail := func(data string) reply {
			return reply{200, object{"jsonrpc": "2.0", "error": object{"code": -32602, "message": "Invalid params.", "data": data}, "id": 1}, nil}
		}
		done := func(result any) reply {
			return reply{200, object{"jsonrpc": "2.0", "result": result, "id": a.at("id")}, nil}
		}
		shown := a.bearer()
		if s, ok := a.at("auth").(string); ok {
			shown = s
		}
		switch a.at("method") {
		case "user.login":
			switch name := a.at("params", "username"); {
			case name == nil || a.at("jsonrpc") != "2.0":
				return fail(`Invalid parameter "/": the parameter "username" is missing.`)
			case a.at("params", "password") != "hunter2":
				return fail("Incorrect user name or password or account is temporarily blocked.")
			case name == "eve":
				return fail(`No permissions to call "user.login".`)
			}
			return done(v.mint(15 * time.Minute))
		case "user.checkAuthentication":
			id, _ := a.at("params", "sessionid").(string)
			if !v.good(id) {
				return fail("Session terminated, re-login, please.")
			}
			v.live[id] = v.now().Add(15 * time.Minute)
			return done(object{"userid": "1", "sessionid": id})
		case "user.logout":
			if !v.good(shown) {
				return fail("Session terminated, re-login, please.")
			}
			delete(v.live, shown)
			return done(true)
		}
		return fail("Incorrect API.")
	})
}

func keystone(v *vendor) {
	v.on("POST /v3/auth/tokens", func(a *ask) reply {
		methods, _ := a.at("auth", "identity", "methods").([]any)
		credential := a.at("auth", "identity", "application_credential")
		who := func(k ...string) any { return a.at(append([]string{"auth", "identity", "password", "user"}, k...)...) }
		project := a.at("auth", "scope", "project")
		out := object{"expires_at": v.now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z"), "methods": methods}
		switch {
		case len(methods) != 1 || methods[0] == "application_credential" && credential == nil || methods[0] != "application_credential" && methods[0] != "password":
			return reply{400, object{"error": object{"code": 400, "message": "hunter2"}}, nil}
		case credential != nil && a.at("auth", "identity", "application_credential", "secret") != "hunter2",
			credential == nil && (who("password") != "hunter2" || who("domain", "name") != "Default"):
			return reply{401, object{"error": object{"code": 401, "title": "Unauthorized"}}, nil}
		case who("name") == "mfa":
			return reply{401, object{"receipt": object{}}, []string{"Openstack-Auth-Receipt", "receipt"}}
		case project != nil && a.at("auth", "scope", "project", "id") != "p1" && (a.at("auth", "scope", "project", "name") != "demo" || a.at("auth", "scope", "project", "domain", "name") != "Default"):
			return reply{401, object{"error": object{"code": 401}}, nil}
		case project != nil:
			out["project"] = object{"id": "p1"}
		}
		return reply{201, object{"token": out}, []string{"X-Subject-Token", v.mint(time.Hour)}}
	})
	v.on("DELETE /v3/auth/tokens", func(a *ask) reply {
		if !v.good(a.Header.Get("X-Auth-Token")) {
			return reply{401, object{}, nil}
		}
		delete(v.live, a.Header.Get("X-Subject-Token"))
		return reply{204, nil, nil}
	})
}

func grafana(v *vendor) {
	may := func(a *ask) int {
		switch {
		case a.bearer() == "hunter2", a.basic("bob", "hunter2"):
			return 200
		case a.bearer() == "viewer":
			return 403
		}
		return 401
	}
	v.on("POST /grafana/api/serviceaccounts/{account}/tokens", func(a *ask) reply {
		ttl, _ := a.at("secondsToLive").(float64)
		name, _ := a.at("name").(string)
		switch status := may(a); {
		case status != 200:
			return reply{status, object{"message": "hunter2"}, nil}
		case a.PathValue("account") != "7":
			return reply{404, object{"message": "service account not found"}, nil}
		case ttl <= 0 || ttl > (100*24*time.Hour).Seconds():
			return reply{400, object{"message": "Number of seconds before expiration is greater than the global limit"}, nil}
		case v.seen[name]:
			return reply{409, object{"message": "service account token with given name already exists"}, nil}
		}
		v.seen[name] = true
		if name == "renewd" {
			return reply{200, object{"id": 1, "name": name, "key": "not-for-long"}, nil}
		}
		key := v.mint(time.Duration(ttl) * time.Second)
		return reply{200, object{"id": v.made, "name": name, "key": key}, nil}
	})
	v.on("DELETE /grafana/api/serviceaccounts/7/tokens/{id}", func(a *ask) reply {
		if status := may(a); status != 200 {
			return reply{status, object{}, nil}
		}
		delete(v.live, "token-"+a.PathValue("id"))
		return reply{200, object{"message": "Service account token deleted"}, nil}
	})
}

func awx(v *vendor) {
	v.on("POST /api/v2/tokens/", func(a *ask) reply {
		switch user, password, _ := a.BasicAuth(); {
		case password != "hunter2":
			return reply{401, object{"detail": "Authentication credentials were not provided."}, nil}
		case user == "ldap":
			return reply{403, object{"detail": "OAuth2 Tokens cannot be created by users associated with an external authentication provider"}, nil}
		case a.at("scope") != "write" || string(a.body) == "" || !hasKey(a, "application"):
			return reply{400, object{"application": []string{"This field is required."}}, nil}
		}
		token := v.mint(100 * 365 * 24 * time.Hour)
		return reply{201, object{"id": v.made, "token": token, "refresh_token": nil, "expires": "3025-11-27T12:00:00.000000Z"}, nil}
	})
	v.on("DELETE /api/v2/tokens/{id}/", func(a *ask) reply {
		token := "token-" + a.PathValue("id")
		if !a.basic("bob", "hunter2") || !v.good(token) {
			return reply{404, object{"detail": "Not found."}, nil}
		}
		delete(v.live, token)
		return reply{204, nil, nil}
	})
}

func hasKey(a *ask, key string) bool {
	m, _ := a.at().(map[string]any)
	_, ok := m[key]
	return ok
}

func graylog(v *vendor) {
	v.on("POST /api/system/sessions", func(a *ask) reply {
		switch {
		case a.Header.Get("X-Requested-By") == "":
			return reply{400, object{"type": "ApiError", "message": "CSRF protection header is missing."}, nil}
		case a.at("username") != "bob" || a.at("password") != "hunter2":
			return reply{401, object{"type": "ApiError", "message": "Invalid credentials"}, nil}
		}
		return reply{200, object{"session_id": v.mint(8 * time.Hour), "valid_until": v.now().Add(8 * time.Hour).UTC().Format("2006-01-02T15:04:05.000-0700")}, nil}
	})
	v.on("DELETE /api/system/sessions/{id}", func(a *ask) reply {
		id := a.PathValue("id")
		if !a.basic(id, "session") || !v.good(id) || a.Header.Get("X-Requested-By") == "" {
			return reply{401, object{"type": "ApiError"}, nil}
		}
		delete(v.live, id)
		return reply{204, nil, nil}
	})
}

func rubrik(v *vendor) {
	v.on("POST /api/v1/service_account/session", func(a *ask) reply {
		if a.at("serviceAccountId") != "User:::1" || a.at("secret") != "hunter2" {
			return reply{422, object{"message": "Incorrect secret"}, nil}
		}
		return reply{200, object{"sessionId": "s1", "serviceAccountId": "User:::1", "token": v.mint(24 * time.Hour), "expirationTime": v.now().Add(24 * time.Hour).UTC().Format("2006-01-02T15:04:05.000Z")}, nil}
	})
	v.on("DELETE /api/v1/session/s1", func(a *ask) reply {
		if !v.good(a.bearer()) {
			return reply{401, object{}, nil}
		}
		delete(v.live, a.bearer())
		return reply{204, nil, nil}
	})
}

func veeam(v *vendor) {
	v.on("POST /api/oauth2/token", func(a *ask) reply {
		old := a.form("refresh_token")
		switch {
		case a.Header.Get("x-api-version") != "1.1-rev0":
			return reply{400, object{"errorCode": "NotImplemented"}, nil}
		case a.form("grant_type") == "password" && a.form("username") == "mfa":
			return reply{200, object{"access_token": "", "mfa_token": "m"}, nil}
		case a.form("grant_type") == "password" && a.form("username") == "bob" && a.form("password") == "hunter2":
		case a.form("grant_type") == "refresh_token" && v.seen[old] && v.good(old):
			delete(v.seen, old)
		default:
			return reply{401, object{"errorCode": "AccessDenied"}, nil}
		}
		rt := v.mint(14 * 24 * time.Hour)
		v.seen[rt] = true
		return reply{200, object{"access_token": v.mint(15 * time.Minute), "refresh_token": rt, "expires_in": 900, "token_type": "bearer", ".expires": "x"}, nil}
	})
	v.on("POST /api/oauth2/logout", func(a *ask) reply {
		if !v.good(a.bearer()) {
			return reply{401, object{}, nil}
		}
		clear(v.live)
		return reply{200, nil, nil}
	})
}

func pocketbase(v *vendor) {
	v.on("POST /api/collections/{name}/auth-with-password", func(a *ask) reply {
		switch {
		case a.PathValue("name") == "oauth":
			return reply{403, object{"status": 403, "message": "The collection is not configured to allow password authentication."}, nil}
		case a.PathValue("name") != "users":
			return reply{404, object{"status": 404, "message": "Missing collection context."}, nil}
		case a.at("password") != "hunter2":
			return reply{400, object{"status": 400, "message": "Failed to authenticate."}, nil}
		case a.at("identity") == "mfa":
			return reply{401, object{"mfaId": "x"}, nil}
		}
		return reply{200, object{"token": v.mintJWT(time.Hour), "record": object{"id": "r1"}}, nil}
	})
	v.on("POST /api/collections/users/auth-refresh", func(a *ask) reply {
		if !v.good(a.Header.Get("Authorization")) {
			return reply{401, object{"status": 401, "message": "The request requires valid record authorization token."}, nil}
		}
		return reply{200, object{"token": v.mintJWT(time.Hour), "record": object{"id": "r1"}}, nil}
	})
}

func etcd(v *vendor) {
	v.on("POST /v3/auth/authenticate", func(a *ask) reply {
		switch {
		case v.made < 0:
			return reply{400, object{"error": "etcdserver: authentication is not enabled", "code": 9}, nil}
		case a.at("password") != "hunter2":
			return reply{400, object{"error": "etcdserver: authentication failed, invalid user ID or password", "code": 3}, nil}
		case a.at("name") == "simple":
			return reply{200, object{"header": object{}, "token": v.mint(5 * time.Minute)}, nil}
		}
		return reply{200, object{"header": object{}, "token": v.mintJWT(5 * time.Minute)}, nil}
	})
}
