// A provider for the test: node provider.mjs MODULE PORT KEY
// MODULE is the installed oidc-provider, KEY the id of the one signing key,
// which is made from nothing else, so that another KEY is another key.
import { generateKeyPairSync } from 'node:crypto'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

const [module, port, kid] = process.argv.slice(2)
const { Provider } = await import(pathToFileURL(join(module, 'lib', 'index.js')))
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const jwk = { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' }

// Who logs in as "eve" is eve@example.org; the second part of a name is a group.
const person = (id) => {
  const [name, group] = id.split('+')
  return { sub: id, email: name + '@example.org', email_verified: name !== 'unverified', preferred_username: name, groups: group ? [group] : [] }
}
const api = 'https://ftp.example.org/api'

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys: [jwk] },
  cookies: { keys: ['a key of the test'] },
  clients: [
    {
      client_id: 'portreeve', token_endpoint_auth_method: 'none', application_type: 'native',
      grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: ['http://127.0.0.1/callback'], response_types: ['code'],
    },
    {
      client_id: 'another', token_endpoint_auth_method: 'none', application_type: 'native',
      redirect_uris: ['http://127.0.0.1/callback'], response_types: ['code'],
    },
    { client_id: 'robot', client_secret: 'of-the-test', grant_types: ['client_credentials'], redirect_uris: [], response_types: [] },
  ],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username', 'groups'] },
  conformIdTokenClaims: false, // claims into the ID token itself
  findAccount: (ctx, id) => ({ accountId: id, claims: () => person(id) }),
  features: {
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({ scope: 'api', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 600 }),
    },
  },
  extraTokenClaims: (ctx, token) => (token.kind === 'ClientCredentials' ? { email: 'robot@example.org', email_verified: true } : undefined),
  pkce: { required: () => true },
  ttl: { IdToken: 600, AccessToken: 600, ClientCredentials: 600, DeviceCode: 60, Interaction: 60, Session: 60, Grant: 60, AuthorizationCode: 30 },
})
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'))
