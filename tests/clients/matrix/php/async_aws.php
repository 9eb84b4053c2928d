<?php
// AsyncAws Core.
require '/usr/share/php/AsyncAws/Core/autoload.php';

use AsyncAws\Core\Configuration;
use AsyncAws\Core\Exception\Http\HttpException;
use AsyncAws\Core\Sts\StsClient;

function sts(array $keys = []): StsClient
{
    return new StsClient(Configuration::create($keys + [
        'endpoint' => getenv('BREVET_ENDPOINT'),
        'region' => getenv('AWS_REGION'),
        'accessKeyId' => getenv('AWS_ACCESS_KEY_ID'),
        'accessKeySecret' => getenv('AWS_SECRET_ACCESS_KEY'),
    ]));
}

function attempt(string $action, callable $call): void
{
    try {
        $result = $call();
    } catch (HttpException $e) {
        $result = $e->getAwsCode() ?? $e->getMessage();
    } catch (\Throwable $e) {
        $result = get_class($e) . ': ' . $e->getMessage();
    }
    echo $action, "\t", substr(preg_replace('/\s+/', ' ', (string) $result), 0, 200), "\n";
}

function arn(?string $text): string
{
    return str_contains((string) $text, 'arn:aws:') ? 'ok' : (string) $text;
}

function assume(string $role)
{
    return sts()->assumeRole(['RoleArn' => $role, 'RoleSessionName' => 'php'])->getCredentials();
}

echo "version\t", getenv('PACKAGE_VERSION'), "\n";
attempt('GetCallerIdentity', fn () => arn(sts()->getCallerIdentity()->getArn()));
attempt('AssumeRole', function () {
    $c = assume(getenv('BREVET_ROLE'));
    $session = ['accessKeyId' => $c->getAccessKeyId(), 'accessKeySecret' => $c->getSecretAccessKey(), 'sessionToken' => $c->getSessionToken()];
    return arn(sts($session)->getCallerIdentity()->getArn());
});
attempt('AssumeRole, denied', fn () => assume(getenv('BREVET_DENIED_ROLE')));
attempt('AssumeRoleWithWebIdentity', function () {
    $input = ['RoleArn' => getenv('BREVET_WEB_ROLE'), 'RoleSessionName' => 'php', 'WebIdentityToken' => getenv('BREVET_WEB_TOKEN')];
    return arn(sts()->assumeRoleWithWebIdentity($input)->getAssumedRoleUser()->getArn());
});
