// The AWS SDK for JavaScript v2: who the credentials belong to that it finds by itself.
import AWS from "aws-sdk";

const sts = new AWS.STS({ endpoint: process.env.AWS_ENDPOINT_URL_STS, region: process.env.AWS_REGION });
try {
  console.log((await sts.getCallerIdentity().promise()).Arn);
} catch (error) {
  console.log(`${error.code}: ${error.message}`);
}
