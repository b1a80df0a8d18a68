package http_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/source/standin"
)

const (
	jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// grantError is an OAuth server's refusal.
func grantError(status int, code, text string) reply {
	return reply{status, object{"error": code, "error_description": text}, nil}
}

// signedTrials are of vendors that want a JWT signed here, or that take it as the
// token itself.
func signedTrials() []trial {
	keyFile := fmt.Sprintf(`{"type":"service_account","client_email":"svc@p.iam","private_key_id":"k1","private_key":%q,"token_uri":"https://evil.example"}`, rsaPEM(0))
	return []trial{
		{preset: "github-app", routes: github, signed: true, logout: true, life: time.Hour, shown: "Authorization: Bearer %s",
			in: values{"app_id": "Iv1", "installation_id": int64(42), "private_key": rsaPEM(0), "permissions": []any{"contents:read"}, "repositories": []any{"a"}},
			wrong: []wrong{
				{name: "key", in: values{"private_key": rsaPEM(1)}, kind: agent.Rejected},
				{name: "app", in: values{"app_id": "Iv2"}, kind: agent.Rejected},
				{name: "installation", in: values{"installation_id": "43"}, kind: agent.Misconfigured},
				{name: "permission", in: values{"permissions": []any{"contents:admin"}}, kind: agent.Misconfigured},
				{name: "too often", do: func(v *vendor) { v.made = 5000 }, kind: agent.Throttled, wait: 5 * time.Minute},
				{name: "logout of nothing", step: agent.StepLogout, do: func(v *vendor) { clear(v.live) }, kind: agent.SessionOver},
			},
			mutants: []mutant{
				{"RS256", "PS256", agent.Rejected}, {"lifetime: \"${jwt_lifetime}\"", "lifetime: 12m", agent.Rejected},
				{"claims: {iss: \"${app_id}\"}", "claims: {iss: x}", agent.Rejected}, {"/access_tokens", "/tokens", agent.Misconfigured},
				{"backdate: \"${backdate}\"", "backdate: 20m", agent.Rejected}, {"pointer: /token", "pointer: /tokens", agent.Misconfigured},
			}},
		{preset: "google-service-account", name: "key file", routes: google, signed: true, life: 3599 * time.Second, shown: "Authorization: Bearer %s",
			in: values{"key_file": keyFile, "scopes": []any{"a", "b"}},
			wrong: []wrong{
				{name: "key", in: values{"key_file": strings.Replace(keyFile, fmt.Sprintf("%q", rsaPEM(0)), fmt.Sprintf("%q", rsaPEM(1)), 1)}, kind: agent.Rejected},
				{name: "account", in: values{"key_file": strings.Replace(keyFile, "svc@", "hunter2@", 1)}, kind: agent.Rejected},
				{name: "no file of Google's", in: values{"key_file": `{"hunter2":1}`}, kind: agent.Misconfigured},
				{name: "scope", in: values{"scopes": []any{"hunter2"}}, kind: agent.Misconfigured},
				{name: "subject", in: values{"subject": "bob@x.example"}, kind: agent.Misconfigured},
			},
			mutants: []mutant{{"RS256", "RS384", agent.Rejected}, {"aud: \"${url}/token\"", "aud: \"${url}\"", agent.Rejected}, {"lifetime: \"${jwt_lifetime}\"", "lifetime: 2h", agent.Misconfigured}}},
		{preset: "google-service-account", name: "pair", routes: google, signed: true, life: 3599 * time.Second, shown: "Authorization: Bearer %s",
			in:    values{"client_email": "svc@p.iam", "private_key": rsaPEM(0), "scopes": "a b"},
			wrong: []wrong{{name: "key", in: values{"private_key": rsaPEM(1)}, kind: agent.Rejected}}},
		{preset: "salesforce-jwt", routes: salesforce, signed: true, life: 15 * time.Minute, shown: "Authorization: Bearer %s", extra: map[string]string{"instance_url": "https://acme.my.salesforce.com"},
			in: values{"client_id": "3MVG", "username": "bob@x.example", "private_key": rsaPEM(0)},
			wrong: []wrong{
				{name: "key", in: values{"private_key": rsaPEM(1)}, kind: agent.Rejected},
				{name: "app", in: values{"client_id": "hunter2"}, kind: agent.Rejected},
				{name: "user not approved", in: values{"username": "eve@x.example"}, kind: agent.Misconfigured},
				{name: "sandbox's audience", in: values{"audience": "https://test.salesforce.com"}, kind: agent.Misconfigured},
				{name: "too often", do: func(v *vendor) { v.made = 3600 }, kind: agent.Throttled, wait: 15 * time.Minute},
			},
			mutants: []mutant{{"lifetime: \"${jwt_lifetime}\"", "lifetime: 4m", agent.Rejected}, {"sub: \"${username}\"", "sub: \"${client_id}\"", agent.Misconfigured}}},
		{preset: "box-jwt", name: "RS512", routes: box, signed: true, logout: true, life: 4100 * time.Second, shown: "Authorization: Bearer %s",
			in: values{"client_id": "cid", "client_secret": "hunter2", "key_id": "k1", "private_key": rsaPEM(0), "subject": "77", "algorithm": "RS512"}},
		{preset: "box-jwt", routes: box, signed: true, logout: true, life: 4100 * time.Second, shown: "Authorization: Bearer %s",
			in: values{"client_id": "cid", "client_secret": "hunter2", "key_id": "k1", "private_key": rsaPEM(0), "subject": "77"},
			wrong: []wrong{
				{name: "key", in: values{"private_key": rsaPEM(1)}, kind: agent.Rejected},
				{name: "secret", in: values{"client_secret": "wrong"}, kind: agent.Rejected},
				{name: "kid", in: values{"key_id": "k2"}, kind: agent.Rejected},
				{name: "kind of subject", in: values{"subject_type": "user"}, kind: agent.Rejected},
				{name: "not authorised", do: func(v *vendor) { v.made = -1 }, kind: agent.Misconfigured},
			},
			mutants: []mutant{{"jti: \"${uuid()}\"", "jti: short", agent.Misconfigured}, {"lifetime: \"${jwt_lifetime}\"", "lifetime: 2m", agent.Misconfigured}, {"aud: \"${audience}\"", "aud: x", agent.Rejected}}},
		{preset: "snowflake-keypair", routes: nothing, life: 59 * time.Minute, shown: "Authorization: Bearer %s",
			in: values{"account": "myorg-acct", "username": "svc", "fingerprint": "SHA256:abc=", "private_key": rsaPEM(0)},
			accepts: func(v *vendor, token string) bool {
				return v.wants(token, asserts{alg: "RS256", key: &rsaKeys()[0].PublicKey, iss: "MYORG-ACCT.SVC.SHA256:abc=", sub: "MYORG-ACCT.SVC", most: time.Hour}) == ""
			},
			wrong:   []wrong{{name: "no key", in: values{"private_key": "hunter2"}, kind: agent.Misconfigured}, {name: "another kind of key", in: values{"private_key": ecPEM(0)}, kind: agent.Misconfigured}},
			mutants: []mutant{{"${user}.${fingerprint}", "${user}", ""}, {"upper(account)", "lower(account)", ""}, {"lifetime: \"${jwt_lifetime}\"", "lifetime: 2h", ""}, {"RS256", "PS256", ""}}},
		{preset: "app-store-connect", name: "team key", routes: nothing, life: 19 * time.Minute, shown: "Authorization: Bearer %s",
			in: values{"key_id": "K1", "issuer_id": "uuid", "private_key": ecPEM(0)}, accepts: storeConnect("uuid", nil),
			wrong:   []wrong{{name: "another kind of key", in: values{"private_key": rsaPEM(0)}, kind: agent.Misconfigured}},
			mutants: []mutant{{"key_id: \"${key_id}\", ", "", ""}, {"appstoreconnect-v1", "appstoreconnect-v2", ""}, {"lifetime: \"${jwt_lifetime}\"", "lifetime: 21m", ""}}},
		{preset: "app-store-connect", name: "person's key", routes: nothing, life: 19 * time.Minute, shown: "Authorization: Bearer %s",
			in: values{"key_id": "K1", "private_key": ecPEM(0), "scopes": []any{"GET /v1/apps"}}, accepts: storeConnect(nil, "user")},
		{preset: "apns", routes: nothing, life: 55 * time.Minute, shown: "Authorization: bearer %s",
			in: values{"key_id": "K1", "team_id": "T1", "private_key": ecPEM(0)},
			accepts: func(v *vendor, token string) bool {
				_, claims, _ := verified(token, &ecKeys()[0].PublicKey)
				iat, _ := claims["iat"].(float64)
				return v.wants(token, asserts{alg: "ES256", key: &ecKeys()[0].PublicKey, iss: "T1", head: object{"kid": "K1", "typ": nil}}) == "" &&
					v.now().Unix()-int64(iat) < 3600
			},
			wrong:   []wrong{{name: "another kind of key", in: values{"private_key": rsaPEM(0)}, kind: agent.Misconfigured}},
			mutants: []mutant{{"claims: {iss:", "claims: {exp: 99999999999, iss:", ""}, {"iss: \"${team_id}\"", "sub: \"${team_id}\"", ""}}},
	}
}

func nothing(*vendor) {}

func storeConnect(iss, sub any) func(v *vendor, token string) bool {
	return func(v *vendor, token string) bool {
		return v.wants(token, asserts{alg: "ES256", key: &ecKeys()[0].PublicKey, iss: iss, sub: sub, aud: "appstoreconnect-v1", head: object{"kid": "K1"}, most: 20 * time.Minute}) == ""
	}
}

func github(v *vendor) {
	v.on("POST /app/installations/{id}/access_tokens", func(a *ask) reply {
		why := v.wants(a.bearer(), asserts{alg: "RS256", key: &rsaKeys()[0].PublicKey, iss: "Iv1", most: 10 * time.Minute})
		permission := a.at("permissions", "contents")
		switch {
		case a.Header.Get("X-GitHub-Api-Version") == "" || a.Header.Get("Accept") != "application/vnd.github+json":
			return reply{415, object{"message": "hunter2"}, nil}
		case why != "":
			return reply{401, object{"message": "A JSON web token could not be decoded: " + why}, nil}
		case v.made >= 5000:
			return reply{403, object{"message": "API rate limit exceeded"}, []string{"X-RateLimit-Remaining", "0"}}
		case a.PathValue("id") != "42":
			return reply{404, object{"message": "Not Found"}, nil}
		case permission != nil && permission != "read":
			return reply{422, object{"message": "The permissions requested are not granted to this installation."}, nil}
		}
		return reply{201, object{"token": v.mint(time.Hour), "expires_at": v.now().Add(time.Hour).UTC().Format(time.RFC3339)}, nil}
	})
	v.on("DELETE /installation/token", func(a *ask) reply {
		if !v.good(a.bearer()) {
			return reply{401, object{"message": "Bad credentials"}, nil}
		}
		delete(v.live, a.bearer())
		return reply{204, nil, nil}
	})
}

func google(v *vendor) {
	v.on("POST /token", func(a *ask) reply {
		token := a.form("assertion")
		_, claims, _ := verified(token, &rsaKeys()[0].PublicKey)
		sub := claims["sub"]
		why := v.wants(token, asserts{alg: "RS256", key: &rsaKeys()[0].PublicKey, iss: "svc@p.iam", sub: sub, aud: "https://oauth2.googleapis.com/token", most: time.Hour})
		switch {
		case a.form("grant_type") != jwtBearer:
			return grantError(400, "unsupported_grant_type", "hunter2")
		case strings.HasPrefix(why, "exp"), strings.HasPrefix(why, "iat"):
			return grantError(400, "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
		case why != "":
			return grantError(400, "invalid_grant", "Invalid JWT Signature.")
		case sub != nil:
			return grantError(401, "unauthorized_client", "Client is unauthorized to retrieve access tokens using this method")
		case claims["scope"] != "a b":
			return grantError(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
		}
		return reply{200, object{"access_token": v.mint(time.Hour), "expires_in": 3599, "token_type": "Bearer"}, nil}
	})
}

func salesforce(v *vendor) {
	v.on("POST /services/oauth2/token", func(a *ask) reply {
		_, claims, _ := verified(a.form("assertion"), &rsaKeys()[0].PublicKey)
		why := v.wants(a.form("assertion"), asserts{alg: "RS256", key: &rsaKeys()[0].PublicKey, iss: "3MVG", sub: claims["sub"], aud: "https://login.salesforce.com", most: 3 * time.Minute})
		switch {
		case a.form("grant_type") != jwtBearer:
			return grantError(400, "unsupported_grant_type", "grant type not supported")
		case why == "aud":
			return grantError(400, "invalid_grant", "audience is invalid")
		case why != "":
			return grantError(400, "invalid_grant", "invalid assertion")
		case claims["sub"] != "bob@x.example":
			return grantError(400, "invalid_grant", "user hasn't approved this consumer")
		case v.made >= 3600:
			return grantError(400, "invalid_grant", "login rate exceeded")
		}
		return reply{200, object{"access_token": v.mint(2 * time.Hour), "instance_url": "https://acme.my.salesforce.com", "token_type": "Bearer", "scope": "api"}, nil}
	})
}

func box(v *vendor) {
	v.on("POST /oauth2/token", func(a *ask) reply {
		token := a.form("assertion")
		_, claims, _ := verified(token, &rsaKeys()[0].PublicKey)
		why := v.wants(token, asserts{alg: "RS256 RS384 RS512", key: &rsaKeys()[0].PublicKey, iss: "cid", sub: "77", aud: "https://api.box.com/oauth2/token",
			head: object{"kid": "k1"}, most: time.Minute, jti: true})
		switch {
		case a.form("grant_type") != jwtBearer || a.form("client_id") != "cid" || a.form("client_secret") != "hunter2":
			return grantError(400, "invalid_client", "The client credentials are invalid")
		case strings.HasPrefix(why, "exp"), strings.HasPrefix(why, "iat"):
			return grantError(400, "invalid_grant", "Please check the 'exp' claim.")
		case why == "jti":
			return grantError(400, "invalid_grant", "Please check the 'jti' claim.")
		case why != "" || claims["box_sub_type"] != "enterprise":
			return grantError(400, "invalid_grant", "Please check the signature and the claims.")
		case v.made < 0:
			return grantError(400, "unauthorized_client", "This app is not authorized by the enterprise admin")
		}
		return reply{200, object{"access_token": v.mint(4100 * time.Second), "expires_in": 4100, "token_type": "bearer", "restricted_to": []any{}}, nil}
	})
	v.on("POST /oauth2/revoke", func(a *ask) reply {
		if a.form("client_secret") != "hunter2" {
			return grantError(400, "invalid_client", "")
		}
		delete(v.live, a.form("token"))
		return reply{200, nil, nil}
	})
}

// Where the vendor hands out the token of a session again, that vouches for it:
// its clock moves on.
func TestTokenHandedOutAgain(t *testing.T) {
	v := newVendor(func(v *vendor) {
		v.on("POST /services/oauth2/token", func(*ask) reply {
			return reply{200, object{"access_token": "the-same", "instance_url": "https://acme.my.salesforce.com"}, nil}
		})
	})
	src := bind(t, compile(t, "salesforce-jwt", preset(t, "salesforce-jwt")), standin.Transport(v), values{"client_id": "3MVG", "username": "bob", "private_key": rsaPEM(0), "session_timeout": "2h"}, nil)
	if g := mustLogin(t, src); g.IatLife || g.Life != 2*time.Hour-time.Second {
		t.Errorf("%v, anchored %v", g.Life, !g.IatLife)
	}
}
