package http_test

import (
	"fmt"
	"strings"
	"time"

	"renewd/agent"
)

const clientID = "11111111-aaaa"

// oauthTrials are of OAuth servers with ways of their own, and of what hands out
// tokens for other programs.
func oauthTrials() []trial {
	entraIn := values{"tenant": "acme", "client_id": clientID, "scopes": []any{"https://management.azure.com/.default"}}
	with := func(base values, more values) values { return (&trial{in: base}).inputs(more) }
	const bearer = "Authorization: Bearer %s"
	return []trial{
		{preset: "entra", name: "secret", routes: entra, life: time.Hour, shown: bearer, in: with(entraIn, values{"client_secret": "hunter2"}),
			wrong: []wrong{
				{name: "secret", in: values{"client_secret": "wrong"}, kind: agent.Rejected}, {name: "client", in: values{"client_id": "x"}, kind: agent.Misconfigured},
				{name: "tenant", in: values{"tenant": "hunter2"}, kind: agent.Misconfigured}, {name: "scope", in: values{"scopes": "hunter2"}, kind: agent.Misconfigured},
				{name: "expired secret", in: values{"client_secret": "old"}, kind: agent.Rejected},
			}},
		{preset: "entra", name: "certificate", routes: entra, signed: true, life: time.Hour, shown: bearer, in: with(entraIn, values{"private_key": rsaPEM(0), "x5t_s256": "thumb"}),
			wrong: []wrong{{name: "key", in: values{"private_key": rsaPEM(1)}, kind: agent.Rejected}, {name: "thumbprint", in: values{"x5t_s256": "x"}, kind: agent.Rejected}},
			mutants: []mutant{{"algorithm: PS256", "algorithm: RS256", agent.Rejected}, {"aud: \"${url}/${tenant}/oauth2/v2.0/token\"", "aud: \"${url}\"", agent.Rejected},
				{"lifetime: \"${jwt_lifetime}\"", "lifetime: 1h", agent.Misconfigured}, {"jti: \"${uuid()}\", ", "", agent.Rejected}, {"sub: \"${client_id}\", ", "", agent.Rejected}}},
		{preset: "entra", name: "certificate by SHA-1", routes: entra, signed: true, life: time.Hour, shown: bearer, in: with(entraIn, values{"private_key": rsaPEM(0), "x5t": "thumb1"}),
			wrong: []wrong{{name: "thumbprint", in: values{"x5t": "thumb"}, kind: agent.Rejected}}},
		{preset: "entra", name: "federated", routes: entra, life: time.Hour, shown: bearer, in: with(entraIn, values{"federated_token": "of-the-cluster"}),
			wrong: []wrong{{name: "expired", in: values{"federated_token": "expired"}, kind: agent.Rejected}, {name: "another's", in: values{"federated_token": "hunter2"}, kind: agent.Rejected}}},
		{preset: "okta", name: "key", routes: okta, signed: true, logout: true, life: time.Hour, shown: bearer,
			in: values{"url": "https://acme.okta.com/oauth2", "client_id": clientID, "private_key": rsaPEM(0), "key_id": "k1", "scopes": []any{"okta.users.read"}},
			wrong: []wrong{
				{name: "key", in: values{"private_key": rsaPEM(1)}, kind: agent.Rejected}, {name: "kid", in: values{"key_id": "k2"}, kind: agent.Rejected},
				{name: "scope", in: values{"scopes": "hunter2"}, kind: agent.Misconfigured}, {name: "url", in: values{"url": "https://acme.okta.com"}, kind: agent.Misconfigured},
				{name: "DPoP", do: func(v *vendor) { v.made = -1 }, kind: agent.Misconfigured},
				{name: "too often", do: func(v *vendor) { v.made = 1000 }, kind: agent.Throttled, wait: time.Minute},
			},
			mutants: []mutant{{"lifetime: \"${jwt_lifetime}\"", "lifetime: 2h", agent.Rejected}, {"aud: \"${url}/v1/token\"", "aud: \"${url}\"", agent.Rejected}, {", jti: \"${uuid()}\"", "", agent.Rejected}}},
		{preset: "okta", name: "EC key", routes: okta, signed: true, logout: true, life: time.Hour, shown: bearer,
			in: values{"url": "https://acme.okta.com/oauth2", "client_id": clientID, "private_key": ecPEM(0), "algorithm": "ES256", "key_id": "k1", "scopes": []any{"okta.users.read"}},
			wrong: []wrong{{name: "algorithm of another key", in: values{"algorithm": "RS512"}, kind: agent.Misconfigured},
				{name: "key", in: values{"private_key": ecPEM(1)}, kind: agent.Rejected}}},
		{preset: "okta", name: "secret", routes: okta, logout: true, life: time.Hour, shown: bearer,
			in:    values{"url": "https://acme.okta.com/oauth2/default", "client_id": clientID, "client_secret": "hunter2", "scopes": "okta.users.read"},
			wrong: []wrong{{name: "secret", in: values{"client_secret": "wrong"}, kind: agent.Rejected}, {name: "the org's own server", in: values{"url": "https://acme.okta.com/oauth2"}, kind: agent.Rejected}}},
		{preset: "auth0", name: "secret", routes: auth0, life: 24 * time.Hour, shown: bearer,
			in:    values{"url": "https://acme.eu.auth0.com", "client_id": clientID, "client_secret": "hunter2", "audience": "https://api.acme.example"},
			wrong: []wrong{{name: "secret", in: values{"client_secret": "wrong"}, kind: agent.Rejected}, {name: "audience", in: values{"audience": "x"}, kind: agent.Misconfigured}}},
		{preset: "auth0", name: "key", routes: auth0, signed: true, life: 24 * time.Hour, shown: bearer,
			in:      values{"url": "https://acme.eu.auth0.com", "client_id": clientID, "private_key": rsaPEM(0), "audience": "https://api.acme.example"},
			wrong:   []wrong{{name: "key", in: values{"private_key": rsaPEM(1)}, kind: agent.Rejected}},
			mutants: []mutant{{"aud: \"${url}/\"", "aud: \"${url}\"", agent.Rejected}, {"lifetime: 2m", "lifetime: 10m", agent.Rejected}}},
		{preset: "auth0", name: "key, PS256", routes: auth0, signed: true, life: 24 * time.Hour, shown: bearer,
			in:      values{"url": "https://acme.eu.auth0.com", "client_id": clientID, "private_key": rsaPEM(0), "algorithm": "PS256", "audience": "https://api.acme.example"},
			mutants: []mutant{{"PS256: PS256", "PS256: RS512", agent.Rejected}}},
		{preset: "keycloak", name: "client", routes: keycloak, life: 5 * time.Minute, shown: bearer, renews: "refresh", spends: true, logout: true,
			in: values{"url": "https://kc.example", "realm": "acme", "client_id": "svc", "client_secret": "hunter2", "scopes": "offline"},
			wrong: []wrong{{name: "secret", in: values{"client_secret": "wrong"}, kind: agent.Rejected}, {name: "realm", in: values{"realm": "x"}, kind: agent.Misconfigured},
				{name: "no service account", in: values{"client_id": "browser"}, kind: agent.Misconfigured}}},
		{preset: "keycloak", name: "password", routes: keycloak, life: 5 * time.Minute, shown: bearer, renews: "refresh", spends: true, logout: true,
			in: values{"url": "https://kc.example", "realm": "acme", "client_id": "public", "username": "bob", "password": "hunter2"},
			wrong: []wrong{{name: "password", in: values{"password": "wrong"}, kind: agent.Rejected}, {name: "user", in: values{"username": "todo"}, kind: agent.NeedsHuman},
				{name: "reused", step: agent.StepRefresh, do: func(v *vendor) { clear(v.seen) }, kind: agent.SessionOver}},
			mutants: []mutant{{"grant_type: password", "grant_type: passwd", agent.Misconfigured}}},
		{preset: "zoom-s2s", routes: zoom, life: 3599 * time.Second, shown: bearer, logout: true, extra: map[string]string{"api_url": "https://api-eu.zoom.us"},
			in: values{"account_id": "acc", "client_id": "cid", "client_secret": "hunter2"},
			wrong: []wrong{{name: "secret", in: values{"client_secret": "wrong"}, kind: agent.Rejected}, {name: "account", in: values{"account_id": "x"}, kind: agent.Rejected},
				{name: "not activated", do: func(v *vendor) { v.made = -1 }, kind: agent.Misconfigured}},
			mutants: []mutant{{"grant_type: account_credentials", "grant_type: client_credentials", agent.Misconfigured}}},
		{preset: "docker-registry", name: "realm", routes: registry, life: 5 * time.Minute, shown: bearer,
			in: values{"realm": "https://auth.example/token", "service": "registry.example", "scopes": []any{"repository:a/b:pull", "repository:a/c:pull"}, "username": "bob", "password": "hunter2"},
			wrong: []wrong{{name: "password", in: values{"password": "wrong"}, kind: agent.Rejected}, {name: "realm", in: values{"realm": "https://auth.example/x"}, kind: agent.Misconfigured},
				{name: "service", in: values{"service": "x"}, kind: agent.Rejected}}},
		{preset: "docker-registry", name: "challenge", routes: registry, life: 5 * time.Minute, shown: bearer,
			in: values{"url": "https://registry.example", "realm_hosts": "auth.example", "scopes": []any{"repository:a/b:pull", "repository:a/c:pull"}, "username": "bob", "password": "hunter2"},
			wrong: []wrong{{name: "password", in: values{"password": "wrong"}, kind: agent.Rejected}, {name: "realm elsewhere", in: values{"realm_hosts": nil}, kind: agent.Misconfigured},
				{name: "no registry", in: values{"url": "https://registry.example/x"}, kind: agent.Misconfigured}, {name: "open", do: func(v *vendor) { v.made = -1 }, kind: agent.Misconfigured},
				{name: "down", do: func(v *vendor) { v.made = -2 }, kind: agent.Transient}},
			mutants: []mutant{{"${challenge.service}", "x", agent.Rejected}}},
		{preset: "docker-registry", name: "public", routes: registry, life: time.Minute, shown: bearer,
			in: values{"realm": "https://auth.example/token", "service": "registry.example", "scopes": "repository:public/x:pull"}},
		{preset: "docker-registry", name: "public by challenge", routes: registry, life: time.Minute, shown: bearer,
			in: values{"url": "https://registry.example", "realm_hosts": []any{"auth.example"}, "scopes": "repository:public/x:pull"}},
		{preset: "vault-approle", routes: vault, life: time.Hour, shown: "X-Vault-Token: %s", renews: "extend", logout: true, extra: map[string]string{"accessor": "acc"},
			in: values{"url": "https://vault.example:8200", "role_id": "role", "secret_id": "hunter2", "namespace": "team"},
			wrong: []wrong{{name: "secret", in: values{"secret_id": "wrong"}, kind: agent.Rejected}, {name: "mount", in: values{"mount": "x"}, kind: agent.Misconfigured},
				{name: "namespace", in: values{"namespace": nil}, kind: agent.Rejected}, {name: "sealed", do: func(v *vendor) { v.made = -1 }, kind: agent.Transient},
				{name: "batch token", step: agent.StepRefresh, do: func(v *vendor) { v.made = -2 }, kind: agent.SessionOver}},
			mutants: []mutant{{"secret_id: \"${secret_id}\"", "secret: \"${secret_id}\"", agent.Rejected}}},
	}
}

func entra(v *vendor) {
	v.on("POST /{tenant}/oauth2/v2.0/token", func(a *ask) reply {
		refuse := func(status int, code string, n int) reply {
			return reply{status, object{"error": code, "error_description": fmt.Sprintf("AADSTS%d: hunter2", n), "error_codes": []int{n}}, nil}
		}
		x := asserts{alg: "PS256", key: &rsaKeys()[0].PublicKey, iss: clientID, sub: clientID, aud: "https://login.microsoftonline.com/acme/oauth2/v2.0/token",
			head: object{"x5t#S256": "thumb"}, most: 10 * time.Minute, jti: true}
		signed := a.form("client_assertion")
		if head, _, _ := verified(signed, x.key); head["x5t"] != nil {
			x.alg, x.head = "RS256", object{"x5t": "thumb1"}
		}
		switch {
		case a.PathValue("tenant") != "acme":
			return refuse(400, "invalid_request", 90002)
		case a.form("client_id") != clientID:
			return refuse(400, "unauthorized_client", 700016)
		case a.form("grant_type") != "client_credentials" || !strings.HasSuffix(a.form("scope"), "/.default"):
			return refuse(400, "invalid_scope", 1002012)
		case signed != "" && a.form("client_assertion_type") != assertion:
			return refuse(400, "invalid_request", 900144)
		case signed == "expired":
			return refuse(401, "invalid_client", 700024)
		case signed == "of-the-cluster":
		case signed != "":
			switch why := v.wants(signed, x); {
			case strings.HasPrefix(why, "exp"), strings.HasPrefix(why, "iat"):
				return refuse(401, "invalid_client", 700024)
			case why != "":
				return refuse(401, "invalid_client", 700027)
			}
		case a.form("client_secret") == "old":
			return refuse(401, "invalid_client", 7000222)
		case a.form("client_secret") != "hunter2":
			return refuse(401, "invalid_client", 7000215)
		}
		return reply{200, object{"access_token": v.mint(time.Hour), "expires_in": 3599, "ext_expires_in": 3599, "token_type": "Bearer"}, nil}
	})
}

func okta(v *vendor) {
	client := func(a *ask, base, path string) *reply {
		r := grantError(401, "invalid_client", "hunter2")
		if a.form("client_assertion") == "" {
			if base == "/oauth2" || !a.basic(clientID, "hunter2") {
				return &r
			}
			return nil
		}
		var key any = &rsaKeys()[0].PublicKey
		if _, _, ec := verified(a.form("client_assertion"), &ecKeys()[0].PublicKey); ec {
			key = &ecKeys()[0].PublicKey // the app has both
		}
		why := v.wants(a.form("client_assertion"), asserts{alg: "RS256 RS384 RS512 ES256 ES384 ES512", key: key, iss: clientID, sub: clientID, aud: "https://acme.okta.com" + base + path,
			head: object{"kid": "k1"}, most: time.Hour, jti: true})
		if strings.Contains(why, "expired") || strings.Contains(why, "future") && !strings.Contains(why, "far") {
			r = grantError(401, "invalid_client", "The client_assertion token is expired or issued in the future.")
		}
		if why != "" || a.form("client_assertion_type") != assertion {
			return &r
		}
		return nil
	}
	for _, base := range []string{"/oauth2", "/oauth2/default"} {
		v.on("POST "+base+"/v1/token", func(a *ask) reply {
			if r := client(a, base, "/v1/token"); r != nil {
				return *r
			}
			switch {
			case a.form("scope") != "okta.users.read":
				return grantError(400, "invalid_scope", "One or more scopes are not configured for the authorization server resource.")
			case v.made < 0:
				return grantError(400, "invalid_dpop_proof", "The DPoP proof JWT header is missing.")
			case v.made >= 1000:
				return reply{429, object{"errorCode": "E0000047"}, []string{"X-Rate-Limit-Reset", "1"}}
			}
			return reply{200, object{"access_token": v.mint(time.Hour), "expires_in": 3600, "token_type": "Bearer"}, nil}
		})
		v.on("POST "+base+"/v1/revoke", func(a *ask) reply {
			if r := client(a, base, "/v1/revoke"); r != nil {
				return *r
			}
			delete(v.live, a.form("token"))
			return reply{200, nil, nil}
		})
	}
}

func auth0(v *vendor) {
	v.on("POST /oauth/token", func(a *ask) reply {
		token, _ := a.at("client_assertion").(string)
		bad := a.at("client_secret") != "hunter2"
		if token != "" {
			bad = a.at("client_assertion_type") != assertion || v.wants(token, asserts{alg: "RS256 RS384 PS256", key: &rsaKeys()[0].PublicKey, iss: clientID, sub: clientID,
				aud: "https://acme.eu.auth0.com/", most: 5 * time.Minute, jti: true}) != ""
		}
		switch {
		case a.at("grant_type") != "client_credentials":
			return grantError(403, "unsupported_grant_type", "hunter2")
		case bad || a.at("client_id") != clientID:
			return grantError(401, "access_denied", "Unauthorized")
		case a.at("audience") != "https://api.acme.example":
			return grantError(403, "access_denied", "Service not enabled within domain: hunter2")
		}
		return reply{200, object{"access_token": v.mint(24 * time.Hour), "expires_in": 86400, "token_type": "Bearer"}, nil}
	})
}

// keycloak is a realm that spends refresh tokens.
func keycloak(v *vendor) {
	const path = "/realms/acme/protocol/openid-connect"
	v.on("POST "+path+"/token", func(a *ask) reply {
		secret := a.form("client_secret")
		switch grant := a.form("grant_type"); {
		case a.form("client_id") != "public" && secret != "hunter2":
			return grantError(401, "unauthorized_client", "Invalid client or Invalid client credentials")
		case grant == "client_credentials" && a.form("client_id") == "browser":
			return grantError(400, "unauthorized_client", "Client not enabled to retrieve service account")
		case grant == "client_credentials":
		case grant == "password" && a.form("password") != "hunter2":
			return grantError(401, "invalid_grant", "Invalid user credentials")
		case grant == "password" && a.form("username") == "todo":
			return grantError(400, "invalid_grant", "Account is not fully set up")
		case grant == "password":
		case grant == "refresh_token" && v.seen[a.form("refresh_token")] && v.good(a.form("refresh_token")):
			delete(v.seen, a.form("refresh_token"))
		case grant == "refresh_token":
			return grantError(400, "invalid_grant", "Token is not active")
		default:
			return grantError(400, "unsupported_grant_type", "Unsupported grant_type")
		}
		rt := v.mint(30 * time.Minute)
		v.seen[rt] = true
		return reply{200, object{"access_token": v.mint(5 * time.Minute), "expires_in": 300, "refresh_expires_in": 1800, "refresh_token": rt, "token_type": "Bearer"}, nil}
	})
	v.on("POST "+path+"/logout", func(a *ask) reply {
		if !v.seen[a.form("refresh_token")] {
			return grantError(400, "invalid_grant", "Invalid refresh token")
		}
		clear(v.live)
		return reply{204, nil, nil}
	})
}

func zoom(v *vendor) {
	v.on("POST /oauth/token", func(a *ask) reply {
		refuse := func(code, reason string) reply { return reply{400, object{"error": code, "reason": reason}, nil} }
		switch q := a.URL.Query(); {
		case q.Get("grant_type") != "account_credentials":
			return refuse("unsupported_grant_type", "unsupported grant type")
		case !a.basic("cid", "hunter2"):
			return refuse("invalid_client", "Invalid client_id or client_secret")
		case q.Get("account_id") != "acc":
			return refuse("invalid_request", "Bad Request")
		case v.made < 0:
			return refuse("invalid_client", "The app has been disabled")
		}
		return reply{200, object{"access_token": v.mint(time.Hour), "expires_in": 3599, "token_type": "bearer", "api_url": "https://api-eu.zoom.us"}, nil}
	})
	v.on("POST /oauth/revoke", func(a *ask) reply {
		if !a.basic("cid", "hunter2") {
			return reply{400, nil, nil}
		}
		delete(v.live, a.URL.Query().Get("token"))
		return reply{200, object{"status": "success"}, nil}
	})
}

func registry(v *vendor) {
	v.on("GET /v2/{$}", func(a *ask) reply {
		switch {
		case a.Host != "registry.example" || a.Header.Get("Authorization") != "":
			return reply{400, nil, nil}
		case v.made == -1:
			return reply{200, object{}, nil}
		case v.made == -2:
			return reply{502, nil, nil}
		}
		return reply{401, object{"errors": []any{}}, []string{"Www-Authenticate", `Basic realm="x, y", Bearer realm="https://auth.example/token",service="registry.example",error="hunter2"`}}
	})
	v.on("GET /token", func(a *ask) reply {
		q := a.URL.Query()
		_, _, known := a.BasicAuth()
		switch {
		case known && !a.basic("bob", "hunter2"), q.Get("service") != "registry.example":
			return reply{401, object{"details": "incorrect username or password"}, nil}
		case !known && !strings.HasPrefix(q.Get("scope"), "repository:public/"):
			return reply{401, nil, nil}
		case !known:
			return reply{200, object{"access_token": v.mint(time.Minute)}, nil}
		case len(q["scope"]) != 2:
			return reply{400, nil, nil}
		}
		return reply{200, object{"token": v.mint(5 * time.Minute), "expires_in": 300, "issued_at": v.now().UTC().Format(time.RFC3339)}, nil}
	})
}

func vault(v *vendor) {
	errs := func(status int, text string) reply { return reply{status, object{"errors": []string{text}}, nil} }
	auth := func(token string, renewable bool) reply {
		return reply{200, object{"auth": object{"client_token": token, "accessor": "acc", "lease_duration": 3600, "renewable": renewable}}, nil}
	}
	v.on("POST /v1/auth/approle/login", func(a *ask) reply {
		switch {
		case v.made == -1:
			return errs(503, "Vault is sealed")
		case a.Header.Get("X-Vault-Namespace") != "team":
			return errs(403, "permission denied")
		case a.at("role_id") != "role" || a.at("secret_id") != "hunter2":
			return errs(400, "invalid role or secret ID")
		}
		return auth(v.mint(time.Hour), true)
	})
	v.on("POST /v1/auth/token/renew-self", func(a *ask) reply {
		token := a.Header.Get("X-Vault-Token")
		switch {
		case !v.good(token):
			return errs(403, "permission denied")
		case v.made == -2:
			return errs(400, "batch tokens cannot be renewed")
		}
		v.live[token] = v.now().Add(time.Hour)
		return auth(token, true)
	})
	v.on("POST /v1/auth/token/revoke-self", func(a *ask) reply {
		delete(v.live, a.Header.Get("X-Vault-Token"))
		return reply{204, nil, nil}
	})
}
