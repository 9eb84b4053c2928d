// The AWS SDK for JavaScript v3, unmodified: who a provider's credentials belong to.
// usage: who.mjs default | process | http | container | sso
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { fromHttp } from "@aws-sdk/credential-provider-http";
import { fromProcess } from "@aws-sdk/credential-provider-process";
import { fromSSO } from "@aws-sdk/credential-provider-sso";
import { fromContainerMetadata } from "@smithy/credential-provider-imds";

const providers = {
  default: () => undefined,
  process: fromProcess,
  http: fromHttp,
  container: fromContainerMetadata,
  sso: fromSSO,
};
try {
  const client = new STSClient({ credentials: providers[process.argv[2]]() });
  console.log((await client.send(new GetCallerIdentityCommand({}))).Arn);
} catch (error) {
  console.log(`${error.name}: ${error.message}`);
}
