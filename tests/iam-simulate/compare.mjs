// By hand: the conformance cases through the npm package @cloud-copilot/iam-simulate, whose
// decisions are compared with what the cases expect (and Brevet decides).
//   npm install --no-save --prefix /tmp/iam-simulate @cloud-copilot/iam-simulate
//   node compare.mjs /tmp/iam-simulate ../data/policy/public.jsonl
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [home, cases] = process.argv.slice(2)
const entry = path.resolve(home, 'node_modules/@cloud-copilot/iam-simulate/dist/esm/index.js')
const { runSimulation, runUnsafeSimulation } = await import(pathToFileURL(entry))

const named = (docs) => (docs ?? []).map((policy, i) => ({ name: `p${i}`, policy }))
const levels = (list) => (list ?? []).map((docs, i) => ({ orgIdentifier: `o-${i}`, policies: named(docs) }))
const counts = { agree: 0, differ: 0, 'cannot run': 0 }
for (const line of fs.readFileSync(cases, 'utf8').split('\n').filter(Boolean)) {
  const { name, request, policies, expect } = JSON.parse(line)
  // Several session policies act as one document; the package takes one.
  const session = policies.session?.length
    ? { Version: policies.session[0].Version, Statement: policies.session.flatMap((p) => p.Statement) }
    : undefined
  const simulation = {
    request: {
      principal: request.principal,
      action: request.action,
      resource: { resource: request.resource, accountId: request.resource_account },
      contextVariables: request.context,
    },
    sessionPolicy: session,
    identityPolicies: named(policies.identity),
    serviceControlPolicies: levels(policies.scp),
    resourceControlPolicies: levels(policies.rcp),
    resourcePolicy: policies.resource ?? undefined,
    permissionBoundaryPolicies: policies.boundary ? named([policies.boundary]) : undefined,
  }
  let got
  try {
    // The unchecked engine knows neither session nor resource policies; the checked one drops
    // condition keys that it does not know.
    if (policies.resource || policies.session) {
      const answer = await runSimulation(simulation, {})
      if (answer.resultType === 'error') throw new Error(answer.errors.message)
      got = answer.overallResult
    } else {
      got = runUnsafeSimulation(simulation, {})
    }
  } catch (error) {
    got = undefined
    console.log(`${name}: cannot run: ${String(error).slice(0, 100)}`)
  }
  const outcome = got === undefined ? 'cannot run' : got === expect ? 'agree' : 'differ'
  counts[outcome] += 1
  if (outcome === 'differ') console.log(`${name}: expected ${expect}, iam-simulate says ${got}`)
}
console.log(counts)
