// An OpenID provider for the tests: node op.mjs CONFIG.json, beside a node_modules
// with oidc-provider. It listens on a free port of loopback, with TLS, and prints
// one line of JSON once it is ready. CONFIG is written by server_test.go:
//
//   tls      {key, cert, ca}: PEM; client certificates are asked for and judged by ca
//   clients  as dynamic registration has them; x_nonce: proofs need a nonce,
//            x_keep: refreshes keep their refresh token
//   bearer   {issuer, jwk}: who may sign assertions for grant jwt-bearer
//   access, refresh, device: lives in seconds
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { randomBytes } from 'node:crypto';
import Provider, { errors } from 'oidc-provider';
import { jwtVerify, importJWK, generateKeyPair, exportJWK } from 'jose';

const config = JSON.parse(readFileSync(process.argv[2]));
const urn = (name) => `urn:ietf:params:oauth:grant-type:${name}`;
const server = createServer({ ...config.tls, requestCert: true, rejectUnauthorized: false });
await new Promise((ready) => { server.listen(0, '127.0.0.1', ready); });
const issuer = `https://localhost:${server.address().port}`;

const keys = await Promise.all(['RS256', 'ES256'].map(async (alg) => ({
  ...await exportJWK((await generateKeyPair(alg, { extractable: true })).privateKey), alg, use: 'sig', kid: alg,
})));
const certificate = (ctx) => ctx.req.socket.getPeerX509Certificate?.();
const resource = (name) => ({
  scope: 'api:read api:write', audience: name, accessTokenTTL: config.access,
  accessTokenFormat: name.endsWith('/jwt') ? 'jwt' : 'opaque', jwt: { sign: { alg: 'ES256' } },
});

const provider = new Provider(issuer, {
  clients: config.clients,
  jwks: { keys },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  clockTolerance: 0, // who signs must know our clock
  scopes: ['openid', 'offline_access', 'api:read', 'api:write'],
  extraClientMetadata: { properties: ['x_nonce', 'x_keep'] },
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt',
    'tls_client_auth', 'self_signed_tls_client_auth', 'none'],
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  rotateRefreshToken: (ctx) => !ctx.oidc.client.x_keep,
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  expiresWithSession: async () => false,
  ttl: {
    AccessToken: () => config.access, ClientCredentials: () => config.access, IdToken: () => config.access,
    RefreshToken: () => config.refresh, DeviceCode: () => config.device, AuthorizationCode: 30,
    Grant: 3600, Session: 3600, Interaction: 600,
  },
  features: {
    clientCredentials: { enabled: true }, deviceFlow: { enabled: true }, revocation: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: (ctx) => !!ctx.oidc.client?.x_nonce },
    mTLS: {
      enabled: true, tlsClientAuth: true, selfSignedTlsClientAuth: true, certificateBoundAccessTokens: true,
      getCertificate: certificate, certificateAuthorized: (ctx) => ctx.req.socket.authorized,
      certificateSubjectMatches: (ctx, property, wanted) => property === 'tls_client_auth_san_dns'
        && (certificate(ctx)?.subjectAltName ?? '').split(', ').includes(`DNS:${wanted}`),
    },
    resourceIndicators: {
      enabled: true, useGrantedResource: async () => true,
      getResourceServerInfo: (ctx, name) => {
        if (!name.startsWith('https://api.lab.test/')) throw new errors.InvalidTarget();
        return resource(name);
      },
    },
  },
});

// token issues what a grant of our own is answered with.
async function token(ctx, account, type) {
  const { client, params } = ctx.oidc;
  const grant = new provider.Grant({ accountId: account, clientId: client.clientId });
  grant.addOIDCScope(params.scope ?? 'api:read');
  const grantId = await grant.save();
  const access = new provider.AccessToken({ accountId: account, client, grantId, gty: type, scope: params.scope ?? 'api:read' });
  ctx.body = { access_token: await access.save(), token_type: 'Bearer', expires_in: access.expiration };
  if (client.grantTypeAllowed('refresh_token')) {
    const refresh = new provider.RefreshToken({ accountId: account, client, grantId, gty: type, scope: params.scope ?? 'api:read' });
    ctx.body.refresh_token = await refresh.save();
  }
}

provider.registerGrantType('password', async (ctx) => {
  const { username, password } = ctx.oidc.params;
  if (username !== 'bob' || password !== 'p&ss wörd') throw new errors.InvalidGrant('wrong');
  await token(ctx, username, 'password');
}, ['username', 'password', 'scope']);

provider.registerGrantType(urn('token-exchange'), async (ctx) => {
  const { subject_token: subject, subject_token_type: type } = ctx.oidc.params;
  if (type !== 'urn:ietf:params:oauth:token-type:access_token') throw new errors.InvalidRequest('another type');
  const found = await provider.AccessToken.find(subject) ?? await provider.ClientCredentials.find(subject);
  if (!found) throw new errors.InvalidRequest('no such token');
  await token(ctx, found.accountId ?? found.clientId, 'exchange');
  ctx.body.issued_token_type = type;
}, ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'audience', 'resource', 'scope'], ['audience', 'resource']);

const seen = new Set();
provider.registerGrantType(urn('jwt-bearer'), async (ctx) => {
  const { issuer: who, jwk } = config.bearer;
  const { payload } = await jwtVerify(ctx.oidc.params.assertion ?? '', await importJWK(jwk, 'RS256'),
    { issuer: who, audience: `${issuer}/token`, algorithms: ['RS256'], requiredClaims: ['sub', 'exp', 'iat', 'jti'] })
    .catch((e) => { throw new errors.InvalidGrant(e.message); });
  if (seen.has(payload.jti)) throw new errors.InvalidGrant('used before');
  seen.add(payload.jti);
  await token(ctx, payload.sub, 'bearer');
}, ['assertion', 'scope']);

// Why something was refused goes to the test's log.
for (const name of ['grant.error', 'server_error', 'authorization.error', 'revocation.error', 'introspection.error']) {
  provider.on(name, (...args) => {
    const e = args.find((a) => a instanceof Error);
    console.error(name, e?.error_description, e?.error_detail ?? '');
  });
}
server.on('request', provider.callback());
console.log(JSON.stringify({ issuer }));
